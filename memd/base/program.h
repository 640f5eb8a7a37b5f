/* Where the other programs of this memd are. */
#pragma once

/*
 * The path of a program, the caller's to free: configured when that is not NULL; of a build tree,
 * which is laid out as the source is, the one that belongs to it (in_tree: "policy/memd-policy");
 * else the installed one. -ENOMEM, any errno of finding out where we are. Whether it is there shows
 * when it is started.
 */
int program_find(const char *configured, const char *in_tree, const char *installed, char **ret);
