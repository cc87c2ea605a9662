# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cryopid_global_optspecs
    string join \n h/help V/version
end

function __fish_cryopid_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_cryopid_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_cryopid_using_subcommand
    set -l cmd (__fish_cryopid_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c cryopid -n "__fish_cryopid_needs_command" -s h -l help -d 'Print help'
complete -c cryopid -n "__fish_cryopid_needs_command" -s V -l version -d 'Print version'
complete -c cryopid -n "__fish_cryopid_needs_command" -f -a "freeze" -d 'Save the tree of PID into one file, then end it'
complete -c cryopid -n "__fish_cryopid_needs_command" -f -a "snapshot" -d 'Save the tree of PID into one file; it runs on'
complete -c cryopid -n "__fish_cryopid_needs_command" -f -a "thaw" -d 'Bring a tree back (running the image itself does the same)'
complete -c cryopid -n "__fish_cryopid_needs_command" -f -a "check" -d 'Tell what this host can do; whether a process can be frozen, an image thawed here, and what would be lost'
complete -c cryopid -n "__fish_cryopid_needs_command" -f -a "inspect" -d 'Show what an image holds'
complete -c cryopid -n "__fish_cryopid_needs_command" -f -a "verify" -d 'Check every checksum of an image'
complete -c cryopid -n "__fish_cryopid_needs_command" -f -a "demo" -d 'Show it on this machine in five seconds'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -s o -l output -d 'Where the image goes, in place of what has that name; - is standard output [default: ./NAME-PID.cryo]' -r -F
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -l tcp -d 'What becomes of TCP connections with others [default: reset; for root: refuse]' -r -f -a "reset\t'Thawed, the program finds them reset, as by a failure of the network'
refuse\t'They are a reason against it'"
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -l external -d 'What becomes of pipes and sockets whose other end is outside of the tree' -r -f -a "disconnect\t'Thawed, the program finds the other end closed; of its standard streams, those of the shell in which it is thawed'
refuse\t'They are a reason against it'"
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -l with-libs -d 'Keep the contents of every mapped file: nothing of this machine is needed to thaw'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -l with-files -d 'Keep the contents of all open regular files too, not only of those open for writing of up to 1 MiB'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -l dry-run -d 'Only look whether it can be done, and what would be lost'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -l json -d 'One JSON object per line instead of text'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -s q -l quiet -d 'Say nothing but errors'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -s v -l verbose -d 'Say more, unless it is to be quiet'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cryopid -n "__fish_cryopid_using_subcommand freeze" -s V -l version -d 'Print version'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -s o -l output -d 'Where the image goes, in place of what has that name; - is standard output [default: ./NAME-PID.cryo]' -r -F
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -l tcp -d 'What becomes of TCP connections with others [default: reset; for root: refuse]' -r -f -a "reset\t'Thawed, the program finds them reset, as by a failure of the network'
refuse\t'They are a reason against it'"
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -l external -d 'What becomes of pipes and sockets whose other end is outside of the tree' -r -f -a "disconnect\t'Thawed, the program finds the other end closed; of its standard streams, those of the shell in which it is thawed'
refuse\t'They are a reason against it'"
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -l with-libs -d 'Keep the contents of every mapped file: nothing of this machine is needed to thaw'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -l with-files -d 'Keep the contents of all open regular files too, not only of those open for writing of up to 1 MiB'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -l dry-run -d 'Only look whether it can be done, and what would be lost'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -l json -d 'One JSON object per line instead of text'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -s q -l quiet -d 'Say nothing but errors'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -s v -l verbose -d 'Say more, unless it is to be quiet'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cryopid -n "__fish_cryopid_using_subcommand snapshot" -s V -l version -d 'Print version'
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -l pids -d 'Where the processes get the ids that they had' -r -f -a "auto\t'In place if they are free and it is allowed, else in a new pid namespace'
same\t'In place, or not at all'
new\t'In a new pid namespace'"
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -l files -d 'What to do about an open file that has changed since' -r -f -a "strict\t'Refuse'
warn\t'Say so, and go on with the file as it is'
saved\t'Put the saved contents back'"
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -l time -d 'What the clocks tell that count from the start of the machine' -r -f -a "keep\t'They go on from where they stood, where that is allowed'
host\t'They are those of this machine'"
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -s d -l detach -d 'Do not wait for the program: it goes on in the background'
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -l dry-run -d 'Print the plan, and do nothing'
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -l json -d 'One JSON object per line instead of text'
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -s q -l quiet -d 'Say nothing but errors'
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -s v -l verbose -d 'Say more, unless it is to be quiet'
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cryopid -n "__fish_cryopid_using_subcommand thaw" -s V -l version -d 'Print version'
complete -c cryopid -n "__fish_cryopid_using_subcommand check" -l json -d 'One JSON object per line instead of text'
complete -c cryopid -n "__fish_cryopid_using_subcommand check" -s q -l quiet -d 'Say nothing but errors'
complete -c cryopid -n "__fish_cryopid_using_subcommand check" -s v -l verbose -d 'Say more, unless it is to be quiet'
complete -c cryopid -n "__fish_cryopid_using_subcommand check" -s h -l help -d 'Print help'
complete -c cryopid -n "__fish_cryopid_using_subcommand check" -s V -l version -d 'Print version'
complete -c cryopid -n "__fish_cryopid_using_subcommand inspect" -l json -d 'One JSON object per line instead of text'
complete -c cryopid -n "__fish_cryopid_using_subcommand inspect" -s q -l quiet -d 'Say nothing but errors'
complete -c cryopid -n "__fish_cryopid_using_subcommand inspect" -s v -l verbose -d 'Say more, unless it is to be quiet'
complete -c cryopid -n "__fish_cryopid_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cryopid -n "__fish_cryopid_using_subcommand inspect" -s V -l version -d 'Print version'
complete -c cryopid -n "__fish_cryopid_using_subcommand verify" -l json -d 'One JSON object per line instead of text'
complete -c cryopid -n "__fish_cryopid_using_subcommand verify" -s q -l quiet -d 'Say nothing but errors'
complete -c cryopid -n "__fish_cryopid_using_subcommand verify" -s v -l verbose -d 'Say more, unless it is to be quiet'
complete -c cryopid -n "__fish_cryopid_using_subcommand verify" -s h -l help -d 'Print help'
complete -c cryopid -n "__fish_cryopid_using_subcommand verify" -s V -l version -d 'Print version'
complete -c cryopid -n "__fish_cryopid_using_subcommand demo" -s o -l output -d 'Where the image is left' -r -F
complete -c cryopid -n "__fish_cryopid_using_subcommand demo" -s h -l help -d 'Print help'
complete -c cryopid -n "__fish_cryopid_using_subcommand demo" -s V -l version -d 'Print version'
