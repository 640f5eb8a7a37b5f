# fish completion for memctl(1). Verbs, options and what they take come from `memctl help`.

function __memctl_verbs
	memctl help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*  \([A-Z].*\)$/\1\t\2/p'
end

function __memctl_verb
	for word in (commandline -opc)[2..]
		if not string match -q -- '-*' $word
			echo $word
			return
		end
	end
end

function __memctl_needs_verb
	test -z (__memctl_verb)
end

function __memctl_guests
	memctl list --json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d'"' -f4
end

function __memctl_takes_guest
	set -l verb (__memctl_verb)
	test -n "$verb"; and memctl help $verb 2>/dev/null | head -n 1 | grep -q ' NAME'
end

function __memctl_options
	set -l verb (__memctl_verb)
	test -n "$verb"; and memctl help $verb 2>/dev/null | head -n 1 | grep -o -- '--[a-z-]*'
end

complete -c memctl -f
complete -c memctl -l bus -x -a 'system session' -d 'The bus that memd is on'
complete -c memctl -l json -d 'Objects instead of text'
complete -c memctl -l help -d 'What a verb does'
complete -c memctl -n __memctl_needs_verb -a '(__memctl_verbs)'
complete -c memctl -n '__memctl_takes_guest' -a '(__memctl_guests)'
complete -c memctl -n '__memctl_verb | string match -q help' -a '(__memctl_verbs)'
complete -c memctl -n '__memctl_options | string length -q' -a '(__memctl_options)'
