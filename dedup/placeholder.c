/* Placeholder so that an empty folder configures; the first real file replaces it. */
typedef int placeholder;
