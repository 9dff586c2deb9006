//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A durable workflow engine on NATS JetStream.
#[derive(Debug, Parser)]
#[command(name = "pled", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where things are, and how to answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The NATS server [default: the nats context, else nats://127.0.0.1:4222].
    #[arg(long, global = true, env = "NATS_URL", hide_env_values = true)]
    pub(crate) nats_url: Option<String>,
    /// A context of the `nats` CLI.
    #[arg(long, global = true, env = "NATS_CONTEXT")]
    pub(crate) context: Option<String>,
    /// The Postgres of the ledger.
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// How to answer.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create the streams and buckets (the only command that does).
    Init(Init),
    /// Start everything on this machine for a try, and say what to type next.
    Dev(Dev),
    /// Run 200 orders through a durable workflow, kill the engine half-way, check everything.
    Demo(Demo),
    /// Run an engine worker.
    Engine(Engine),
    /// Run a rule worker: raw events of the ingest door become messages.
    Rules,
    /// Run a schedule worker: it starts executions by time, one process at a time.
    Scheduler,
    /// Run an action worker with the built-in actions.
    Worker(WorkerCommand),
    /// Run the HTTP gateway.
    Gateway(Gateway),
    /// Project the journal to Postgres.
    Ledger,
    /// Run all roles in one process.
    All(All),
    /// Find mistakes in templates before they are registered.
    Check(Check),
    /// Say what the names of actions stand for, and see who does them.
    #[command(subcommand)]
    Action(Action),
    /// Register and read templates.
    #[command(subcommand)]
    Template(Template),
    /// Create schedules that start executions by time, and look after them.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Draw a template, with the path of an execution on it.
    Draw(Draw),
    /// Start an execution.
    Start(Start),
    /// Send an event to an execution.
    Send(Send),
    /// Ask an execution to end in its own way: its template may handle it, else what was done is
    /// compensated.
    Cancel(Control),
    /// End an execution at once, without compensation.
    Terminate(Control),
    /// Let an execution rest: what comes for it waits until it is resumed.
    Pause(Pause),
    /// Let a paused execution go on, with what came meanwhile.
    Resume(Control),
    /// Look at tasks that are outstanding, and end them from outside.
    #[command(subcommand)]
    Task(Tasks),
    /// Show the state of an execution.
    Show(One),
    /// Show what happened in an execution, step by step.
    History(History),
    /// List executions.
    List(List),
    /// Do every step of an execution again from its recorded causes.
    Replay(Replay),
    /// Say why a step went as it did: candidate transitions, guards, the value of each operand.
    Why(Why),
    /// Try a template by hand on a virtual clock, without a server.
    Simulate(Simulate),
    /// Run scenario files (*.test.yaml) on a virtual clock, without a server.
    Test(Test),
    /// Prove from what is stored that every promise was kept.
    ///
    /// Exit code 0: all holds; 1: something does not; 2: not everything could be read.
    Verify(Verify),
    /// Write what the streams hold to a file, as lines of JSON.
    Export(Export),
    /// Look at everything that can be wrong, and say what to do. Exit code 1: something is bad.
    Doctor,
    /// Look at what was set aside, send it again, or drop it.
    #[command(subcommand)]
    Dead(Dead),
    /// Look at what needs a person, and decide what becomes of it.
    #[command(subcommand, name = "incident")]
    Incident(Incidents),
    /// Go on after a loss: say what is to be done, and do it with --yes.
    Recover(Recover),
    /// Measure, with servers and processes of its own.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// How many partitions; never changed after.
    #[arg(long, default_value_t = 16)]
    pub(crate) partitions: u16,
    /// How many servers keep each stream.
    #[arg(long, default_value_t = 1)]
    pub(crate) replicas: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Where the gateway listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: std::net::SocketAddr,
    /// The port of the nats-server that is started.
    #[arg(long, default_value_t = 4222)]
    pub(crate) nats_port: u16,
    /// Where the servers keep their data; without: a temporary folder.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Set in the process that runs inside the started servers.
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The seed of the simulated services' failures.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How often the orders file is run, with other ids each time.
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: u32,
    /// Set in the process that runs inside the started servers.
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
    /// Set in the process that plays the payment, carrier and billing services.
    #[arg(long, hide = true)]
    pub(crate) services: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Engine {
    /// The worker's id [default: a fresh one].
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// How long a lease lives without a sign of life, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) lease_ttl_ms: u64,
    /// Memory for states of executions, in MiB. What is not there is read from the journal.
    #[arg(long, env = "PLED_CACHE_MIB", default_value_t = 32)]
    pub(crate) cache_mib: u64,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WorkerCommand {
    #[command(subcommand)]
    pub(crate) command: Option<WorkerSays>,
    #[command(flatten)]
    pub(crate) worker: Worker,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerSays {
    /// Play the engine to a worker in any language, and say what it does wrong.
    ///
    /// Exit code 1: something is wrong. Inputs are JSON, or `@` and a file with it.
    Conformance(Conformance),
}

#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// The action whose tasks the worker pulls.
    #[arg(long)]
    pub(crate) action: String,
    /// An input with which it succeeds.
    #[arg(long, default_value = "null")]
    pub(crate) input: String,
    /// An input with which it fails.
    #[arg(long)]
    pub(crate) fail_input: Option<String>,
    /// An input with which it takes longer than three seconds.
    #[arg(long)]
    pub(crate) slow_input: Option<String>,
    /// An input with which its result is larger than a message may be.
    #[arg(long)]
    pub(crate) huge_input: Option<String>,
    /// How long anything may take, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) patience: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Worker {
    /// The actions to run [default: the built-in ones].
    #[arg(long, value_delimiter = ',')]
    pub(crate) actions: Vec<String>,
    /// How many tasks of an action at once.
    #[arg(long, default_value_t = 64)]
    pub(crate) concurrency: usize,
    /// Let `http` reach private and loopback addresses.
    #[arg(long)]
    pub(crate) allow_private: bool,
    /// A folder with a file for each secret that bindings name (without it: `PLED_SECRET_<NAME>`
    /// of the environment).
    #[arg(long, env = "PLED_SECRETS_DIR")]
    pub(crate) secrets_dir: Option<PathBuf>,
    /// Certificates (PEM) of authorities that `http` trusts beside the system's.
    #[arg(long, value_name = "FILE", env = "PLED_HTTP_CA")]
    pub(crate) http_ca: Option<PathBuf>,
    /// Also answer `bench.noop`.
    #[arg(long, hide = true)]
    pub(crate) noop: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Gateway {
    /// Where to listen.
    #[arg(long, env = "PLED_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: std::net::SocketAddr,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct All {
    #[command(flatten)]
    pub(crate) engine: Engine,
    #[command(flatten)]
    pub(crate) worker: Worker,
    #[command(flatten)]
    pub(crate) gateway: Gateway,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 clean, 1 errors (with --deny-warnings also warnings), 2 the \
    command line is wrong or a file could not be read."
)]
pub(crate) struct Check {
    /// Templates, folders of templates, or `-` for standard input.
    #[arg(required_unless_present = "explain")]
    pub(crate) files: Vec<PathBuf>,
    /// Fail also where there are only warnings.
    #[arg(long)]
    pub(crate) deny_warnings: bool,
    /// How many configurations of each template the model check explores.
    #[arg(long, default_value_t = pled_authoring::model::CONFIGURATIONS_DEFAULT)]
    pub(crate) max_configurations: usize,
    /// Leave the model check out.
    #[arg(long)]
    pub(crate) no_model: bool,
    /// Also ask the installation which actions of the templates nobody does.
    #[arg(long)]
    pub(crate) live: bool,
    /// Tell what a code means.
    #[arg(long, value_name = "CODE", conflicts_with = "files")]
    pub(crate) explain: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// List actions with their bindings, what waits, and whether anybody does them.
    List,
    /// Show one whole.
    Show {
        /// Its name.
        action: String,
    },
    /// Bind an action: workers of `pled` do it from now on.
    Bind {
        /// Its name, `payments.charge`.
        action: String,
        /// `{"http":{…}}`, `{"webhook":{…}}` or `{"nats":{…}}`; a file with it; `-`: standard input.
        binding: String,
        /// Where the workers have their secrets, to warn of those that are not there.
        #[arg(long, env = "PLED_SECRETS_DIR")]
        secrets_dir: Option<PathBuf>,
    },
    /// Take a binding away, with its limits.
    Unbind {
        /// The action's name.
        action: String,
    },
    /// Bound how much of an action is done at a time.
    Limit {
        /// Its name.
        action: String,
        /// How many tasks all workers together hold at most.
        #[arg(long, required_unless_present = "none",
              value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        concurrency: Option<u32>,
        /// No bound.
        #[arg(long, conflicts_with = "concurrency")]
        none: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Template {
    /// Register a template version.
    Add {
        /// The JSON file; `-` is standard input.
        file: PathBuf,
    },
    /// List the registered templates.
    List,
    /// Print a template as it was registered.
    Show {
        /// `order` or `order@3`.
        template: String,
    },
    /// Print the JSON Schema of templates, for editors.
    Schema,
    /// Make a template of an XState v5 machine, as Stately Studio exports it to JSON.
    Import {
        /// The JSON file; `-` is standard input.
        file: PathBuf,
        /// Where to write the template [default: standard output].
        #[arg(long)]
        out: Option<PathBuf>,
        /// A JSON file with an expression for each guard's name.
        #[arg(long, value_name = "FILE")]
        guards: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Create a schedule, or with --replace give one another specification.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        spec: ScheduleSpec,
        /// Replace the schedule of this name; what it counted and what runs is kept.
        #[arg(long)]
        replace: bool,
    },
    /// List the schedules.
    List,
    /// Show a schedule: what it is, what runs, what was started and skipped.
    Show {
        /// Its name.
        name: String,
    },
    /// Tell when it is due next.
    Next {
        /// Its name; without: what the specification given here says, without a server.
        name: Option<String>,
        #[command(flatten)]
        spec: ScheduleSpec,
        /// How many times.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        count: u16,
        /// After this instant, such as 2026-03-28T00:00:00Z [default: now].
        #[arg(long)]
        after: Option<String>,
    },
    /// Start nothing more by itself.
    Pause {
        /// Its name.
        name: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Go on with the times from now on.
    Resume {
        /// Its name.
        name: String,
    },
    /// Start an execution now, beside the times.
    Trigger {
        /// Its name.
        name: String,
        /// The execution's id: a repeat has no effect [default: the schedule's name and the moment].
        #[arg(long)]
        id: Option<String>,
        /// What becomes of it while others run [default: allow_all].
        #[arg(long)]
        overlap: Option<pled_engine::schedule::Overlap>,
    },
    /// Start what belongs to the times of a range of the past; what was started before stays.
    Backfill {
        /// Its name.
        name: String,
        /// The beginning of the range, such as 2026-03-01T00:00:00Z.
        #[arg(long)]
        from: String,
        /// Its end, included.
        #[arg(long)]
        until: String,
        /// What becomes of each while others run [default: buffer_all].
        #[arg(long)]
        overlap: Option<pled_engine::schedule::Overlap>,
    },
    /// Remove a schedule; what it started goes on.
    Delete {
        /// Its name.
        name: String,
    },
}

/// What a schedule starts and when: a file, and members that are put over those of the file.
#[derive(Debug, Args)]
pub(crate) struct ScheduleSpec {
    /// The specification, a JSON file; `-` is standard input.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// What is started: `order` (the newest version) or `order@3`.
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// The input of each execution, JSON.
    #[arg(long)]
    pub(crate) input: Option<String>,
    /// When, `0 9 * * MON-FRI`; as often as wanted.
    #[arg(long)]
    pub(crate) cron: Vec<String>,
    /// Every so often, `PT15M` or milliseconds.
    #[arg(long)]
    pub(crate) every: Option<String>,
    /// The time zone of cron, `Europe/Berlin` [default: UTC].
    #[arg(long)]
    pub(crate) time_zone: Option<String>,
    /// What becomes of a time while the execution before still runs [default: skip].
    #[arg(long)]
    pub(crate) on_overlap: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Draw {
    /// The template's JSON file, `-` is standard input; with --execution it may be left out.
    pub(crate) file: Option<PathBuf>,
    /// The kind of picture [default: by the ending of --out, else mermaid].
    #[arg(long, value_enum)]
    pub(crate) format: Option<Picture>,
    /// Where to write it [default: standard output].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Mark the path of this execution, from its journal.
    #[arg(long, value_name = "ID", conflicts_with_all = ["path", "steps", "input"])]
    pub(crate) execution: Option<String>,
    /// Mark the path that these events lead along, simulated: `PAID,done.invoke.ship`.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) path: Option<String>,
    /// As --path, from a file with a step a line: {"after_ms":…,"event":{"name":…,"data":…}}.
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub(crate) steps: Option<PathBuf>,
    /// The input of the simulated execution, JSON.
    #[arg(long, default_value = "null")]
    pub(crate) input: String,
}

/// A kind of picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Picture {
    /// `stateDiagram-v2`, which GitHub and many editors show.
    Mermaid,
    /// An image.
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// `order` (the newest version) or `order@3`.
    pub(crate) template: String,
    /// The input, JSON.
    #[arg(default_value = "null")]
    pub(crate) input: String,
    /// The execution's id [default: a UUIDv7].
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Fail if there is an execution of this id already; else that is no error, and nothing is
    /// changed.
    #[arg(long)]
    pub(crate) must_be_new: bool,
    /// Wait for the outcome, at most this many seconds.
    #[arg(long, num_args = 0..=1, default_missing_value = "10")]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The execution.
    pub(crate) execution: String,
    /// The event's type.
    pub(crate) event: String,
    /// Its data, JSON.
    #[arg(default_value = "null")]
    pub(crate) data: String,
    /// The event's id: a repeat has no effect.
    #[arg(long)]
    pub(crate) event_id: Option<String>,
    /// Wait for the outcome, at most this many seconds.
    #[arg(long, num_args = 0..=1, default_missing_value = "10")]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tasks {
    /// List the tasks that are outstanding.
    List {
        /// Only those of this execution [default: of all, by the cache of states].
        execution: Option<String>,
        /// Only those of this action.
        #[arg(long)]
        action: Option<String>,
    },
    /// Show a task.
    Show {
        /// `<execution>/<entry>-<index>`, as it is listed.
        task: String,
    },
    /// End a task with a result, as its worker would.
    Complete {
        /// `<execution>/<entry>-<index>`, as it is listed.
        task: String,
        /// The result, JSON.
        #[arg(default_value = "null")]
        data: String,
        #[command(flatten)]
        answer: TaskAnswer,
    },
    /// End the attempt of a task with a failure, as its worker would.
    Fail {
        /// `<execution>/<entry>-<index>`, as it is listed.
        task: String,
        /// What kind of failure.
        #[arg(long)]
        code: String,
        /// In a sentence.
        #[arg(long, default_value = "")]
        message: String,
        /// Let `retry` of the template try it again.
        #[arg(long)]
        retryable: bool,
        #[command(flatten)]
        answer: TaskAnswer,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TaskAnswer {
    /// Wait until the execution has taken it, at most this many seconds.
    #[arg(long, num_args = 0..=1, default_missing_value = "10")]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Control {
    /// The execution.
    pub(crate) execution: String,
    /// Why: it is recorded in the journal.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Wait for the outcome, at most this many seconds.
    #[arg(long, num_args = 0..=1, default_missing_value = "10")]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) control: Control,
    /// Stop its timers too: what was left of them begins at the resume. Without, they run on, and
    /// what came due meanwhile is taken then.
    #[arg(long)]
    pub(crate) stop_timers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The execution.
    pub(crate) execution: String,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The execution.
    pub(crate) execution: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this template.
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// Only those with this status.
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The execution; without: all.
    pub(crate) execution: Option<String>,
    /// Compare every transition, effect, state and hash with what is recorded; exit 1 if one
    /// differs.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Replay against this template file instead of the registered version.
    #[arg(long)]
    pub(crate) template: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The execution.
    #[arg(required_unless_present = "template")]
    pub(crate) execution: Option<String>,
    /// The entry [default: the newest].
    pub(crate) entry: Option<u64>,
    /// Without a server: simulate this template file.
    #[arg(long, conflicts_with_all = ["execution", "entry"])]
    pub(crate) template: Option<PathBuf>,
    /// With --template: the start's input, JSON.
    #[arg(long, default_value = "null", requires = "template")]
    pub(crate) input: String,
    /// With --template: steps, one a line: `{"after_ms":n,"event":{"name":…,"data":…}}`.
    #[arg(long, requires = "template")]
    pub(crate) steps: Option<PathBuf>,
    /// With --template: an event, `NAME` or `NAME=DATA`; as often as wanted.
    #[arg(long, requires = "template")]
    pub(crate) event: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The template's JSON file.
    #[arg(required_unless_present = "jsonl")]
    pub(crate) file: Option<PathBuf>,
    /// The start's input, JSON.
    #[arg(long, default_value = "null")]
    pub(crate) input: String,
    /// Take these steps first, one a line: `{"after_ms":n,"event":{"name":…,"data":…}}`.
    #[arg(long)]
    pub(crate) steps: Option<PathBuf>,
    /// Read cases from standard input, one a line, and write one result a line.
    #[arg(long, conflicts_with_all = ["file", "input", "steps"])]
    pub(crate) jsonl: bool,
    /// With --jsonl: whose way is gone in the two corners where XState contradicts the engine.
    #[arg(long, value_enum, default_value_t = Corners::Xstate, requires = "jsonl")]
    pub(crate) corners: Corners,
}

/// Whose way is gone where XState 5 contradicts the engine (docs/templates.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Corners {
    /// XState's, to compare implementations.
    Xstate,
    /// The engine's.
    Pled,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Scenario files, or folders to look for *.test.yaml in [default: this folder].
    pub(crate) paths: Vec<PathBuf>,
    /// Run only scenarios whose name contains this.
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// Whether to report which states and transitions no scenario used.
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub(crate) coverage: bool,
    /// Fail if less than this percentage of the states and transitions of a template was used.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) min_coverage: Option<u8>,
    /// Write the results as JUnit XML.
    #[arg(long)]
    pub(crate) junit: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// An export in place of the live system; `-` is standard input.
    #[arg(long)]
    pub(crate) from: Option<PathBuf>,
    /// What clients know: a line of JSON for each event that was acknowledged to them
    /// (docs/verify.md). May be given more than once.
    #[arg(long)]
    pub(crate) client_log: Vec<PathBuf>,
    /// Also demand that nothing is left to be done: no input, no task.
    #[arg(long)]
    pub(crate) settled: bool,
    /// Memory for states, in MiB: what does not fit is replayed in parts.
    #[arg(long, default_value_t = 1_024)]
    pub(crate) states_mib: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file; `-` is standard output.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// List what was set aside, oldest first.
    List {
        #[command(flatten)]
        which: DeadFilter,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Also what was retried or dropped by hand.
        #[arg(long)]
        notes: bool,
    },
    /// Show a record whole.
    Show {
        /// Its number in the list.
        record: u64,
    },
    /// Send the messages of records again, and take the records away.
    Retry {
        /// Their numbers in the list.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        records: Vec<u64>,
        /// All that fit.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        which: DeadFilter,
    },
    /// Take records away.
    Drop {
        /// Their numbers in the list.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        records: Vec<u64>,
        /// All that fit.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        which: DeadFilter,
        /// Really.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeadFilter {
    /// Only those of this cause: `poison`, `unknown-execution`, ….
    #[arg(long)]
    pub(crate) cause: Option<String>,
    /// Only those for this execution.
    #[arg(long)]
    pub(crate) execution: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Incidents {
    /// List the open incidents in groups that have one template, place and error code.
    List {
        #[command(flatten)]
        which: IncidentFilter,
        /// Each by itself, as with --group.
        #[arg(long)]
        each: bool,
    },
    /// Show one whole.
    Show {
        /// `<execution>/<incident>`, as the list says it.
        incident: String,
    },
    /// Have the failed task tried once more, under the same key.
    Retry(IncidentIds),
    /// Let the invocation count as done.
    Resolve {
        #[command(flatten)]
        ids: IncidentIds,
        /// The result that it is to have, JSON.
        #[arg(long, default_value = "null")]
        data: String,
    },
    /// Forget it: the execution stays where it is.
    Ignore(IncidentIds),
    /// Let the execution fail by it.
    Fail(IncidentIds),
}

#[derive(Debug, Args)]
pub(crate) struct IncidentFilter {
    /// Only those of this group.
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Only those of this template.
    #[arg(long)]
    pub(crate) template: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct IncidentIds {
    /// `<execution>/<incident>`, as the list says them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) incidents: Vec<String>,
    /// All that fit.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) which: IncidentFilter,
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// Only say what is to be done (the default).
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Do it.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
    /// Executions of three tasks in a row, from start to done.
    Flow(BenchOptions),
    /// Events to long-lived executions, from sent to applied and answered.
    Events(BenchOptions),
    /// Events published until they are acknowledged; no engine runs.
    Ingest(BenchOptions),
    /// Executions that start and wait for an event, which then comes.
    Starts(BenchOptions),
    /// One execution with a long history, read and done again.
    Replay(BenchOptions),
    /// The owner of a partition is killed, and another engine worker goes on.
    Takeover(BenchOptions),
}

impl Bench {
    /// How it is run.
    pub(crate) fn options(&self) -> &BenchOptions {
        match self {
            Self::Flow(options)
            | Self::Events(options)
            | Self::Ingest(options)
            | Self::Starts(options)
            | Self::Replay(options)
            | Self::Takeover(options) => options,
        }
    }

    /// The word on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Flow(_) => "flow",
            Self::Events(_) => "events",
            Self::Ingest(_) => "ingest",
            Self::Starts(_) => "starts",
            Self::Replay(_) => "replay",
            Self::Takeover(_) => "takeover",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchOptions {
    /// The server's default sync interval (2 minutes).
    #[arg(long, conflicts_with = "durable")]
    pub(crate) relaxed: bool,
    /// An fsync behind every acknowledgement (`sync_interval: always`).
    #[arg(long)]
    pub(crate) durable: bool,
    /// How many nats-servers keep each stream: 1 or 3, all on this machine.
    #[arg(long, default_value_t = 1, value_parser = one_or_three)]
    pub(crate) replicas: usize,
    /// How many engine workers share the partitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) engines: u16,
    /// How long to measure, after a warm-up of a fifth of it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) secs: u64,
    /// How many at once [default: flow 64, events 200, ingest 512].
    #[arg(long)]
    pub(crate) in_flight: Option<usize>,
    /// How many a second, planned ahead, instead of so many at once.
    #[arg(long, conflicts_with = "in_flight", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// How many executions are parked [default: starts 100000, takeover 10000].
    #[arg(long)]
    pub(crate) executions: Option<usize>,
    /// How often `takeover` kills.
    #[arg(long, default_value_t = 20)]
    pub(crate) kills: usize,
    /// How many entries the execution of `replay` has.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) entries: usize,
    /// Set in the process that runs inside the started servers.
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

fn one_or_three(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.1..=1_000_000.0).contains(rate))
        .ok_or_else(|| "a number from 0.1 to 1000000".to_owned())
}
