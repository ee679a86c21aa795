# shellcheck shell=bash
# Completion of hkswitch(1) in bash. Only for groups and controllers is the program asked, which takes a moment.
# tests/cli/test_completions.py compares what is written here with the program.

_hkswitch() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command="" words="" i
    COMPREPLY=()
    # bash makes --config=FILE three words.
    if [[ $cur == = ]]; then
        cur=""
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $prev in
        --config | --png | --svg | --wrapper | --output | -o)
            compopt -o default # of readline: files
            return
            ;;
        --state-dir | --scripts)
            compopt -o dirnames
            return
            ;;
        --address | --port) return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} != -* ]]; then
            command=${COMP_WORDS[i]}
            break
        fi
    done
    case $command:$cur in
        :-*) words="--version --help" ;;
        :*) words="audit check demo diagnostics doctor import-homebridge pair reload restart run start status stop unpair" ;;
        check:-*) words="--config --help" ;;
        demo:-*) words="--config --address --port --state-dir --help" ;;
        diagnostics:-*) words="--config --state-dir --help" ;;
        doctor:-*) words="--config --state-dir --json --help" ;;
        import-homebridge:-*) words="--wrapper --output --scripts --help" ;;
        import-homebridge:*) compopt -o default ;;
        pair:-*) words="--state-dir --json --list --reset-attempts --png --svg --help" ;;
        reload:-*) words="--state-dir --help" ;;
        run:-*) words="--config --state-dir --verbose --help" ;;
        start:-* | stop:-* | restart:-*) words="--state-dir --no-wait --help" ;;
        status:-*) words="--config --state-dir --json --watch --help" ;;
        audit:-*) words="--help" ;;
        audit:* | start:* | stop:* | restart:* | status:*)
            words=$(hkswitch status --json 2>/dev/null | sed -n 's/^      "id": "\([a-z0-9-]*\)",$/\1/p')
            ;;
        unpair:-*) words="--state-dir --all --help" ;;
        unpair:*) words=$(hkswitch pair --list 2>/dev/null | sed -n 's/^\([0-9A-F-]*\)  .*/\1/p') ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _hkswitch hkswitch
