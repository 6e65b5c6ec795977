fn main() -> std::process::ExitCode {
    raftsman::cli::main()
}
