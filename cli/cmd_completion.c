/* completion: for each shell a few lines that hand what is typed to "complete" (cmd_complete.c). */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

/* readline splits words at = and :, too; what it has of the word already is taken off the candidates. */
static const char bash[] = "_tunnel_cli() {\n"
			   "    local line=${COMP_LINE:0:COMP_POINT} found word skip IFS\n"
			   "    local -a words\n"
			   "    read -ra words <<<\"$line\"\n"
			   "    [[ $line == *[[:space:]] ]] && words+=(\"\")\n"
			   "    word=${words[-1]}\n"
			   "    skip=${word%\"${word##*[=:]}\"}\n"
			   "    COMPREPLY=()\n"
			   "    while IFS= read -r found; do\n"
			   "        [[ $found == :files ]] && { compopt -o default; break; }\n"
			   "        found=${found%%$'\\t'*}\n"
			   "        COMPREPLY+=(\"${found#\"$skip\"}\")\n"
			   "    done < <(\"${COMP_WORDS[0]}\" complete -- \"${words[@]:1}\" 2>/dev/null)\n"
			   "}\n"
			   "complete -F _tunnel_cli tunnel-cli\n";

static const char zsh[] =
	"#compdef tunnel-cli\n"
	"_tunnel_cli() {\n"
	"    local found\n"
	"    local -a values shown\n"
	"    for found in \"${(@f)$(\"${words[1]}\" complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\"; do\n"
	"        [[ $found == :files ]] && { _files; return }\n"
	"        [[ -n $found ]] || continue\n"
	"        values+=(\"${found%%$'\\t'*}\")\n"
	"        shown+=(\"${found/$'\\t'/  -- }\")\n"
	"    done\n"
	"    (( $#values )) && compadd -l -d shown -a values\n"
	"}\n"
	"if [[ $funcstack[1] == _tunnel_cli ]]; then _tunnel_cli \"$@\"; else compdef _tunnel_cli tunnel-cli; fi\n";

static const char fish[] = "function __tunnel_cli_complete\n"
			   "    set -l words (commandline -opc)\n"
			   "    set -l word (commandline -ct)\n"
			   "    set -l found ($words[1] complete -- $words[2..-1] \"$word\" 2>/dev/null)\n"
			   "    if test \"$found\" = :files\n"
			   "        __fish_complete_path \"$word\"\n"
			   "    else\n"
			   "        string join \\n -- $found\n"
			   "    end\n"
			   "end\n"
			   "complete -c tunnel-cli -f -a '(__tunnel_cli_complete)'\n";

static const struct {
	const char *name, *text;
} shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

static int completion(const void *options, int argc, char **argv)
{
	(void)options;
	for (size_t i = 0; argc == 1 && i < sizeof shells / sizeof *shells; i++) {
		if (strcmp(argv[0], shells[i].name) != 0)
			continue;
		fputs(shells[i].text, stdout);
		return EXIT_CODE_OK;
	}
	complain("completion: expected one argument: bash, zsh or fish");
	return EXIT_CODE_USAGE;
}

const struct command command_completion = {
	.name = "completion",
	.usage = "bash|zsh|fish",
	.summary = "Print what lets a shell complete commands, options, targets, sessions and policies",
	.options_size = sizeof(struct common_options),
	.run = completion,
	.details = "Examples:\n"
		   "  eval \"$(tunnel-cli completion bash)\"                # in ~/.bashrc\n"
		   "  eval \"$(tunnel-cli completion zsh)\"                 # in ~/.zshrc, behind compinit\n"
		   "  tunnel-cli completion fish >~/.config/fish/completions/tunnel-cli.fish\n",
};
