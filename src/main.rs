//! PLED: a durable workflow engine on NATS JetStream. This crate is wiring only: the command line,
//! the roles, and the commands that start servers of their own (`dev`, `demo`, `bench`).

mod bench;
mod cli;
mod commands;
mod demo;
mod dev;
mod local;
mod render;
mod roles;
mod shutdown;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Template, WorkerCommand, WorkerSays};

/// With glibc's, a step took the longer the more states there were in all templates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::logs(quiet_or_loud(&cli.command));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error).context("the async runtime")),
    };
    match runtime.block_on(Box::pin(run(cli))) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    match command {
        Command::Init(options) => commands::init::run(&global, &options).await,
        Command::Dev(options) => Box::pin(dev::run(&global, &options)).await,
        Command::Demo(options) => Box::pin(demo::run(&global, &options)).await,
        Command::Engine(options) => roles::run(&global, roles::Roles::engine(options)).await,
        Command::Rules => roles::run(&global, roles::Roles::rules()).await,
        Command::Worker(WorkerCommand { command: None, worker }) => {
            roles::run(&global, roles::Roles::worker(worker)).await
        }
        Command::Worker(WorkerCommand { command: Some(said), worker: _ }) => {
            let WorkerSays::Conformance(options) = said;
            Box::pin(commands::conformance::run(&global, &options)).await
        }
        Command::Scheduler => roles::run(&global, roles::Roles::scheduler()).await,
        Command::Gateway(options) => roles::run(&global, roles::Roles::gateway(options)).await,
        Command::Ledger => roles::run(&global, roles::Roles::ledger()).await,
        Command::All(options) => roles::run(&global, roles::Roles::all(options)).await,
        Command::Check(options) => commands::check::run(&global, &options).await,
        Command::Action(command) => commands::action::run(&global, command).await,
        Command::Template(Template::Add { file }) => commands::template::add(&global, &file).await,
        Command::Template(Template::List) => commands::template::list(&global).await,
        Command::Template(Template::Show { template }) => {
            commands::template::show(&global, &template).await
        }
        Command::Template(Template::Schema) => Ok(commands::template::schema()),
        Command::Template(Template::Import { file, out, guards }) => {
            commands::import::run(&file, out.as_deref(), guards.as_deref())
        }
        Command::Schedule(command) => commands::schedule::run(&global, command).await,
        Command::Draw(options) => commands::draw::run(&global, &options).await,
        Command::Start(options) => commands::send::start(&global, options).await,
        Command::Send(options) => commands::send::send(&global, options).await,
        Command::Cancel(options) => commands::control::send(&global, "pled.cancel", options).await,
        Command::Terminate(options) => {
            commands::control::send(&global, "pled.terminate", options).await
        }
        Command::Pause(options) => commands::control::pause(&global, options).await,
        Command::Resume(options) => commands::control::send(&global, "pled.resume", options).await,
        Command::Task(command) => commands::task::run(&global, command).await,
        Command::Show(options) => commands::execution::show(&global, &options.execution).await,
        Command::History(options) => {
            commands::execution::history(&global, &options.execution).await
        }
        Command::List(options) => commands::execution::list(&global, &options).await,
        Command::Replay(options) => commands::replay::run(&global, &options).await,
        Command::Why(options) => commands::why::run(&global, &options).await,
        Command::Simulate(options) => commands::simulate::run(&options),
        Command::Test(options) => commands::test::run(&global, &options),
        Command::Bench(bench) => bench::run(&global, &bench).await,
        Command::Verify(options) => Ok(commands::verify::run(&global, &options).await),
        Command::Export(options) => commands::verify::export(&global, &options).await,
        Command::Doctor => commands::doctor::run(&global).await,
        Command::Dead(command) => commands::dead::run(&global, command).await,
        Command::Incident(command) => Box::pin(commands::incident::run(&global, command)).await,
        Command::Recover(options) => commands::recover::run(&global, &options).await,
    }
}

/// Services say what they do; a command that a person typed says only what is wrong.
fn quiet_or_loud(command: &Command) -> &'static str {
    match command {
        Command::Engine(_)
        | Command::Rules
        | Command::Worker(WorkerCommand { command: None, .. })
        | Command::Scheduler
        | Command::Gateway(_)
        | Command::Ledger
        | Command::All(_) => "info,async_nats=warn,sqlx=warn",
        Command::Init(_)
        | Command::Dev(_)
        | Command::Demo(_)
        | Command::Worker(WorkerCommand { command: Some(_), .. })
        | Command::Check(_)
        | Command::Action(_)
        | Command::Template(_)
        | Command::Schedule(_)
        | Command::Draw(_)
        | Command::Start(_)
        | Command::Send(_)
        | Command::Cancel(_)
        | Command::Terminate(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Task(_)
        | Command::Show(_)
        | Command::History(_)
        | Command::List(_)
        | Command::Replay(_)
        | Command::Why(_)
        | Command::Simulate(_)
        | Command::Test(_)
        | Command::Verify(_)
        | Command::Export(_)
        | Command::Doctor
        | Command::Dead(_)
        | Command::Incident(_)
        | Command::Recover(_)
        | Command::Bench(_) => "warn,async_nats=error,sqlx=error",
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say_error(&format!("pled: {error:#}"));
    ExitCode::FAILURE
}

#[expect(clippy::print_stderr, reason = "the command line's own words to a person")]
fn say_error(text: &str) {
    eprintln!("{text}");
}

/// Prints a line of a command's answer.
fn say(text: impl std::fmt::Display) {
    use std::io::Write as _;
    // A reader that went away (`| head`) is no error of ours.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
