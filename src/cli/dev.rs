//! `raftsman dev`: what helps to try things out on one machine.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{CliError, Output, Table};
use crate::client::connection::Connection;
use crate::env::real::RealNetwork;

/// Arguments of `raftsman dev`.
#[derive(Debug, Args)]
#[command(version, arg_required_else_help = true)]
pub struct DevArguments {
    #[command(subcommand)]
    command: DevCommand,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Run a cluster of several nodes on this machine until Ctrl-C
    Cluster(ClusterArguments),
}

#[derive(Debug, Args)]
#[command(
    version,
    infer_long_args = true,
    after_help = "Examples:
  raftsman dev cluster                      three nodes, on 127.0.0.1:9092 to 9094, data in ./raftsman-cluster
  raftsman dev cluster --nodes 5 --port 29092 --dir /tmp/five
  raftsman dev cluster --override default.replication.factor=3 --override min.insync.replicas=2

Each node has a folder with its server.properties, its log and its data. A node that was killed is started again by
raftsman server DIR/node-N/server.properties; all of them, with what they had, by the same command as the first time."
)]
struct ClusterArguments {
    /// How many nodes; each is broker and controller
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Where the nodes have their folders
    #[arg(long, value_name = "DIR", default_value = "raftsman-cluster")]
    dir: PathBuf,
    /// Clients connect there to the first node; the others follow. Controllers are 10000 above, metrics 10 above those
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// A property of every node: key=value. May be repeated
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// One JSON object per node once all are ready
    #[arg(long)]
    json: bool,
}

/// How long a node may take until it answers.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end in order.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

pub async fn run(arguments: DevArguments, out: &mut Output) -> Result<(), CliError> {
    match arguments.command {
        DevCommand::Cluster(arguments) => cluster(&arguments, out).await,
    }
}

struct Node {
    id: u16,
    port: u16,
    controller_port: u16,
    admin_port: u16,
    folder: PathBuf,
    child: Option<Child>,
}

impl Node {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn start(&mut self) -> Result<(), CliError> {
        let failed = |error| CliError::while_doing(format!("start node {}", self.id), error);
        let log = File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        let child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("server")
            .arg(self.properties())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        self.child = Some(child);
        Ok(())
    }

    /// Why it has ended, if it has.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status.to_string())
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].iter().map(|line| format!("  {line}\n")).collect()
    }
}

async fn cluster(arguments: &ClusterArguments, out: &mut Output) -> Result<(), CliError> {
    let cannot = |error| CliError::while_doing("wait for signals", error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let started = Instant::now();
    let mut nodes = prepare(arguments)?;
    let running = async {
        for node in &mut nodes {
            node.start()?;
        }
        wait_ready(&mut nodes).await?;
        tell(&nodes, arguments, started.elapsed(), out)?;
        out.flush()?;
        watch(&mut nodes).await
    };
    let outcome = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        outcome = running => outcome,
    };
    stop(&mut nodes).await;
    outcome
}

/// Makes the nodes' folders and files. Ports that are taken are told before anything is written.
fn prepare(arguments: &ClusterArguments) -> Result<Vec<Node>, CliError> {
    let beyond = || CliError::Usage(format!("--port {}: the ports go beyond 65535", arguments.port));
    let port = |base: u32, id: u16| u16::try_from(base + u32::from(id) - 1).map_err(|_| beyond());
    let base = u32::from(arguments.port);
    let mut nodes = Vec::new();
    for id in 1..=arguments.nodes {
        nodes.push(Node {
            id,
            port: port(base, id)?,
            controller_port: port(base + 10_000, id)?,
            admin_port: port(base + 10_010, id)?,
            folder: arguments.dir.join(format!("node-{id}")),
            child: None,
        });
    }
    for port in nodes.iter().flat_map(|node| [node.port, node.controller_port, node.admin_port]) {
        TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
            CliError::Failed(format!("port {port} cannot be had ({error}): choose others with --port"))
        })?;
    }
    let voters: Vec<String> =
        nodes.iter().map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller_port)).collect();
    for node in &nodes {
        write_properties(node, &voters.join(","), arguments)?;
    }
    Ok(nodes)
}

fn write_properties(node: &Node, voters: &str, arguments: &ClusterArguments) -> Result<(), CliError> {
    let copies = arguments.nodes.min(3);
    let data = std::path::absolute(node.folder.join("data")).unwrap_or_else(|_| node.folder.join("data"));
    let mut text = format!(
        "# Written by raftsman dev cluster, anew at each start.\n\
         process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={data}\n\
         raftsman.admin.listener=127.0.0.1:{admin_port}\n\
         default.replication.factor={copies}\n\
         offsets.topic.replication.factor={copies}\n\
         min.insync.replicas={in_sync}\n",
        id = node.id,
        port = node.port,
        controller_port = node.controller_port,
        admin_port = node.admin_port,
        data = data.display(),
        in_sync = copies.div_ceil(2),
    );
    for given in &arguments.overrides {
        if !given.contains('=') {
            return Err(CliError::Usage(format!("--override {given}: expected key=value")));
        }
        text += given;
        text.push('\n');
    }
    let written =
        std::fs::create_dir_all(&node.folder).and_then(|()| std::fs::write(node.properties(), text));
    written.map_err(|error| CliError::while_doing(format!("write {}", node.properties().display()), error))
}

async fn wait_ready(nodes: &mut [Node]) -> Result<(), CliError> {
    let deadline = Instant::now() + READY_LIMIT;
    for at in 0..nodes.len() {
        loop {
            for node in nodes.iter_mut() {
                if let Some(why) = node.ended() {
                    let lines = node.last_lines();
                    return Err(CliError::Failed(format!("node {} has ended ({why}):\n{lines}", node.id)));
                }
            }
            let node = &nodes[at];
            let (address, limit) = (node.address(), Duration::from_secs(2));
            let opening = Connection::open(&RealNetwork, &address, "raftsman-dev", limit, 2_000);
            if opening.await.is_ok() {
                break;
            }
            if Instant::now() > deadline {
                let log = node.log();
                let message = format!("node {} does not answer; its log: {}", node.id, log.display());
                return Err(CliError::Failed(message));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

fn tell(
    nodes: &[Node],
    arguments: &ClusterArguments,
    took: Duration,
    out: &mut Output,
) -> Result<(), CliError> {
    let pid = |node: &Node| node.child.as_ref().map_or(0, Child::id);
    if arguments.json {
        for node in nodes {
            out.json(&json!({
                "node": node.id,
                "bootstrap_server": node.address(),
                "controller": format!("127.0.0.1:{}", node.controller_port),
                "metrics": format!("http://127.0.0.1:{}/metrics", node.admin_port),
                "folder": node.folder,
                "pid": pid(node),
            }))?;
        }
        return Ok(());
    }
    let plural = if nodes.len() == 1 { "node" } else { "nodes" };
    writeln!(
        out,
        "\nRaftsman, a cluster of {} {plural}, ready after {} ms\n",
        nodes.len(),
        took.as_millis()
    )?;
    let mut table = Table::new(&["node", "clients", "metrics", "pid", "folder"]);
    for node in nodes {
        table.row(vec![
            node.id.to_string(),
            node.address(),
            format!("http://127.0.0.1:{}/metrics", node.admin_port),
            pid(node).to_string(),
            node.folder.display().to_string(),
        ]);
    }
    table.print(out)?;
    let all: Vec<String> = nodes.iter().map(Node::address).collect();
    let (all, copies) = (all.join(","), nodes.len().min(3));
    let folder = |path: &Path| path.display().to_string();
    writeln!(
        out,
        "\n\
         try     raftsman topics --bootstrap-server {all} --create --topic hello --partitions 3 --replication-factor {copies}\n\
         \x20       raftsman topics --bootstrap-server {all} --describe --topic hello\n\
         break   kill -9 {}; then describe again, and start it with: raftsman server {}\n\
         stop    Ctrl-C\n",
        nodes.last().map_or(0, pid),
        nodes.last().map_or_else(String::new, |node| folder(&node.properties())),
    )?;
    Ok(())
}

/// Tells of nodes that end, as long as one is there.
async fn watch(nodes: &mut [Node]) -> Result<(), CliError> {
    loop {
        for node in nodes.iter_mut() {
            if let Some(why) = node.ended() {
                let properties = node.properties();
                eprintln!(
                    "node {} has ended ({why}); its log: {}. Start it again: raftsman server {}",
                    node.id,
                    node.log().display(),
                    properties.display()
                );
            }
        }
        if nodes.iter().all(|node| node.child.is_none()) {
            return Err(CliError::Failed("no node is left".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Ends all of them in order, at the same time.
async fn stop(nodes: &mut [Node]) {
    for child in nodes.iter().filter_map(|node| node.child.as_ref()) {
        if let Ok(pid) = i32::try_from(child.id()) {
            // One that has ended meanwhile is not waited for below.
            _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
    let deadline = Instant::now() + STOP_LIMIT;
    for node in nodes {
        let (id, Some(mut child)) = (node.id, node.child.take()) else { continue };
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("node {id} does not end; it is killed");
                _ = child.kill();
                _ = child.wait();
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
