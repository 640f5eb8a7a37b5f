/* See web-page.h. The assembler reads the files: no generated source, no copy. */
#include "memd/web-page.h"

#include "memd/base/cleanup.h"

#define EMBED(symbol, file)                                                                        \
	__asm__(".pushsection .rodata\n" #symbol "_begin:\n.incbin \"" MEMD_SOURCE_DIR             \
		"/memd/web/" file "\"\n" #symbol "_end:\n.byte 0\n.popsection\n");                 \
	extern const char symbol##_begin[] __attribute__((visibility("hidden")));                  \
	extern const char symbol##_end[] __attribute__((visibility("hidden")))

EMBED(web_html, "index.html");
EMBED(web_script, "memd.js");
EMBED(web_style, "memd.css");

const struct web_file web_files[] = {
	{"/", "text/html; charset=utf-8", web_html_begin, web_html_end},
	{"/memd.js", "text/javascript; charset=utf-8", web_script_begin, web_script_end},
	{"/memd.css", "text/css; charset=utf-8", web_style_begin, web_style_end},
};
const size_t n_web_files = ARRAY_SIZE(web_files);
