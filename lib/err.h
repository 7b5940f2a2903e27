/* Error codes: negative, named after errno; 0 is success. */
#ifndef LIB_ERR_H
#define LIB_ERR_H

enum err {
	EOK = 0,
	E_PERM = -1,      /* not allowed in this state */
	E_NOENT = -2,     /* no such object */
	E_IO = -5,        /* device error or checksum mismatch */
	E_2BIG = -7,      /* argument list or batch too long */
	E_AGAIN = -11,    /* must wait: caller is woken, then repeats */
	E_NOMEM = -12,    /* no frame (or no backing) to be had now */
	E_FAULT = -14,    /* address outside the address space */
	E_BUSY = -16,     /* object in use, pinned or in flight */
	E_EXIST = -17,    /* name already taken */
	E_NODEV = -19,    /* device absent or gone */
	E_INVAL = -22,    /* malformed argument */
	E_NOSPC = -28,    /* partition, table or ring full */
	E_RANGE = -34,    /* number out of range */
	E_NOSYS = -38,    /* unknown call or missing capability */
	E_TIMEDOUT = -110 /* device did not answer in time */
};

/* Short upper-case name of a code ("E_NOMEM"); "E_?" for a stranger. */
const char *err_name(int err);

#endif
