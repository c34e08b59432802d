# capture-completion.zsh SCRIPT LINE: prints what a Tab behind LINE offers in a zsh that has sourced SCRIPT.
# Completion works in an interactive shell only, so one is run in a terminal of its own; compadd, which is given every
# offer, tells them.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT=; RPROMPT=; autoload -Uz compinit; compinit -u -D; source ${(q)1}"
zpty -w shell 'compadd () { local -a given hits; zparseopts -E -a given O: A: D:; if [[ -n $given ]]; then builtin compadd "$@"; return; fi; builtin compadd -A hits "$@"; builtin compadd "$@"; print -rl -- "offer<"$^hits">" }'
zpty -w shell 'tell-end () { print "the end of the offers" }; zle -N tell-end; bindkey "^T" tell-end; print is ready'
while zpty -r shell text; do
    [[ $text == (|*[^t] )'is ready'* ]] && break
done
zpty -w -n shell "$2"$'\t\C-t'
while zpty -r shell text; do
    print -r -- "$text"
    [[ $text == *'the end of the offers'* ]] && break
done | grep -o 'offer<[^>]*>' | sed 's/^offer<//;s/>$//' | sort -u
zpty -d shell
