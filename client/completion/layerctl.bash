# shellcheck shell=bash
# bash completion for layerctl(1). The words come from layerctl itself, which knows its commands and asks the
# daemon for names.

_layerctl() {
    local line="${COMP_LINE:0:COMP_POINT}" cur words candidates

    # bash takes words apart at ":" and "=", which names of images and paths contain: they are split at
    # blanks here, and what bash has completed already is taken off again below.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[-1]}
    candidates=$(layerctl __complete -- "${words[@]:1}" 2>/dev/null)
    mapfile -t COMPREPLY <<<"$candidates"
    [[ -n $candidates ]] || COMPREPLY=()

    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *:/ ]]; then
        compopt -o nospace
    fi
}

# Where layerctl offers nothing, file names are completed.
complete -o bashdefault -o default -F _layerctl layerctl
