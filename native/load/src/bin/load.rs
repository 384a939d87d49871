use std::process::ExitCode;

use clap::Parser;
use ferrosock_load::args::Args;
use ferrosock_load::mode;

fn main() -> ExitCode {
    let args = Args::parse();
    match mode::run(args.mode) {
        Ok(report) if args.json => {
            println!("{}", serde_json::json!(report));
            ExitCode::SUCCESS
        }
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
