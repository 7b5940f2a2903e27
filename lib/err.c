/* Names of error codes. */
#include "lib/err.h"

const char *err_name(int err)
{
	switch ((enum err)err) {
	case EOK:
		return "EOK";
	case E_PERM:
		return "E_PERM";
	case E_NOENT:
		return "E_NOENT";
	case E_IO:
		return "E_IO";
	case E_2BIG:
		return "E_2BIG";
	case E_AGAIN:
		return "E_AGAIN";
	case E_NOMEM:
		return "E_NOMEM";
	case E_FAULT:
		return "E_FAULT";
	case E_BUSY:
		return "E_BUSY";
	case E_EXIST:
		return "E_EXIST";
	case E_NODEV:
		return "E_NODEV";
	case E_INVAL:
		return "E_INVAL";
	case E_NOSPC:
		return "E_NOSPC";
	case E_RANGE:
		return "E_RANGE";
	case E_NOSYS:
		return "E_NOSYS";
	case E_TIMEDOUT:
		return "E_TIMEDOUT";
	}
	return "E_?";
}
