/* What the reader of the configuration file and the keys have in common. */
#ifndef VMM_CONFIG_INTERNAL_H
#define VMM_CONFIG_INTERNAL_H

#define CONFIG_SHOWN 64 /* characters of a bad word that are repeated to the operator */

/* The word, short and printable. Returns buf. */
const char *config_shown(char buf[CONFIG_SHOWN + 1], const char *word);

#endif
