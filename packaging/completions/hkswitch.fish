# Completion of hkswitch(1) in fish. Only for groups and controllers is the program asked, which takes a moment.
# tests/cli/test_completions.py compares what is written here with the program.

function __hkswitch_groups
    string match --quiet -- '-*' (commandline -ct); and return
    hkswitch status --json 2>/dev/null | string replace --filter --regex '^      "id": "([a-z0-9-]*)",$' '$1'
end

function __hkswitch_controllers
    string match --quiet -- '-*' (commandline -ct); and return
    hkswitch pair --list 2>/dev/null | string replace --filter --regex '^([0-9A-F-]*)  .*' '$1'
end

# Whether the command, the first word that is no option, is one of these; without these, whether there is none.
function __hkswitch_command
    set -l words (commandline -opc)
    set -l command (string match --invert -- '-*' $words[2..])[1]
    contains -- "$command" $argv; or test -z "$command$argv"
end

complete -c hkswitch -f
complete -c hkswitch -s h -l help -d 'Show help'

complete -c hkswitch -n __hkswitch_command -l version -d 'Show the version'
complete -c hkswitch -n __hkswitch_command -a audit -d 'Show what the helper was asked for, and what it did'
complete -c hkswitch -n __hkswitch_command -a check -d 'Check the configuration'
complete -c hkswitch -n __hkswitch_command -a demo -d 'Serve a bridge with simulated units'
complete -c hkswitch -n __hkswitch_command -a diagnostics -d 'Print a text for a bug report'
complete -c hkswitch -n __hkswitch_command -a doctor -d 'Look at the installation, and say what to do'
complete -c hkswitch -n __hkswitch_command -a import-homebridge -d 'Turn the switches of Homebridge into a configuration'
complete -c hkswitch -n __hkswitch_command -a pair -d 'Show the setup code and its QR code'
complete -c hkswitch -n __hkswitch_command -a reload -d 'Apply the configuration without a restart'
complete -c hkswitch -n __hkswitch_command -a restart -d 'Restart groups, but only those that run'
complete -c hkswitch -n __hkswitch_command -a run -d 'Serve the bridge'
complete -c hkswitch -n __hkswitch_command -a start -d 'Start groups'
complete -c hkswitch -n __hkswitch_command -a status -d 'Show how the groups, their units and the bridge are'
complete -c hkswitch -n __hkswitch_command -a stop -d 'Stop groups'
complete -c hkswitch -n __hkswitch_command -a unpair -d 'Remove the pairing of a controller'

complete -c hkswitch -n '__hkswitch_command check demo diagnostics doctor run status' -l config -rF -d 'The configuration'
complete -c hkswitch -n '__hkswitch_command demo diagnostics doctor pair reload restart run start status stop unpair' -l state-dir -xa '(__fish_complete_directories)' -d 'Where keys and pairings are kept'
complete -c hkswitch -n '__hkswitch_command doctor pair status' -l json -d 'For programs'

complete -c hkswitch -n '__hkswitch_command demo' -l address -x -d 'Where to serve'
complete -c hkswitch -n '__hkswitch_command demo' -l port -x -d 'The TCP port'

complete -c hkswitch -n '__hkswitch_command import-homebridge' -F
complete -c hkswitch -n '__hkswitch_command import-homebridge' -l wrapper -rF -d 'The script that the switches call'
complete -c hkswitch -n '__hkswitch_command import-homebridge' -s o -l output -rF -d 'Where to write it'
complete -c hkswitch -n '__hkswitch_command import-homebridge' -l scripts -xa '(__fish_complete_directories)' -d 'Where to write scripts'

complete -c hkswitch -n '__hkswitch_command pair' -l list -d 'Show the controllers that are paired'
complete -c hkswitch -n '__hkswitch_command pair' -l reset-attempts -d 'Allow pairing again after 100 failed attempts'
complete -c hkswitch -n '__hkswitch_command pair' -l png -rF -d 'Write the QR code as a picture'
complete -c hkswitch -n '__hkswitch_command pair' -l svg -rF -d 'Write the QR code as a picture'

complete -c hkswitch -n '__hkswitch_command audit restart start status stop' -a '(__hkswitch_groups)' -d Group
complete -c hkswitch -n '__hkswitch_command restart start stop' -l no-wait -d 'Do not wait until it is done'
complete -c hkswitch -n '__hkswitch_command run' -l verbose -d 'Write the debug log'
complete -c hkswitch -n '__hkswitch_command status' -l watch -d 'Show it again after each change'

complete -c hkswitch -n '__hkswitch_command unpair' -l all -d 'Remove every controller'
complete -c hkswitch -n '__hkswitch_command unpair' -a '(__hkswitch_controllers)' -d Controller
