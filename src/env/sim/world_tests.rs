//! What the simulated network and machines do to those who use them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::net::Link;
use super::world::{MachineId, World};
use crate::env::{ListenOptions, Surroundings};

type Said = Arc<Mutex<Vec<String>>>;

/// Sends back what it is sent, on port 9.
async fn echo(surroundings: Surroundings) -> Result<(), String> {
    let listener =
        surroundings.network.bind("", 9, ListenOptions::default()).await.map_err(|e| e.to_string())?;
    loop {
        let (stream, _) = listener.accept().await.map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            let mut buffer = [0; 1000];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if writer.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
    }
}

/// Sends a message every 10 ms and says what became of it; connects again when the stream ends.
async fn ask(surroundings: Surroundings, said: Said) -> Result<(), String> {
    let mut count = 0u32;
    loop {
        let connected = surroundings.network.connect("server:9", Duration::from_secs(2)).await;
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                said.lock().push(format!("{:?}", error.kind()));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        loop {
            count += 1;
            let message = vec![count as u8; 3000];
            let mut answer = vec![0; message.len()];
            let asked = async {
                stream.write_all(&message).await?;
                stream.read_exact(&mut answer).await.map(|_| ())
            };
            match asked.await {
                Ok(()) => {
                    assert!(answer == message);
                    said.lock().push(format!("answered {count}"));
                }
                Err(error) => {
                    said.lock().push(format!("{:?}", error.kind()));
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn world(seed: u64) -> (World, MachineId, MachineId, Said) {
    let mut world = World::new(seed);
    let (server, client) = (world.add_machine("server"), world.add_machine("client"));
    let said = Said::default();
    world.start(server, |process| echo(process.surroundings));
    let to = said.clone();
    world.start(client, |process| ask(process.surroundings, to));
    world.run_for(200);
    assert!(said.lock().len() > 5, "{said:?}");
    said.lock().clear();
    (world, server, client, said)
}

#[test]
fn a_killed_process_ends_its_streams_and_refuses_new_ones() {
    for seed in 0..10 {
        let (mut world, server, _, said) = world(seed);
        world.kill(server);
        world.run_for(500);
        {
            let said = said.lock();
            let ended = said.iter().find(|word| !word.starts_with("answered")).expect("the stream ended");
            assert!(["UnexpectedEof", "ConnectionReset", "BrokenPipe"].contains(&ended.as_str()), "{said:?}");
            assert_eq!(said.last().expect("said"), "ConnectionRefused");
        }
        world.start(server, |process| echo(process.surroundings));
        world.run_for(300);
        assert!(said.lock().last().expect("said").starts_with("answered"));
    }
}

#[test]
fn a_lost_machine_is_silent_until_it_is_back_and_knows_nothing() {
    let (mut world, server, _, said) = world(1);
    world.power_cut(server);
    world.run_for(1500);
    assert!(said.lock().iter().all(|word| word.starts_with("answered")), "{said:?}");
    world.start(server, |process| echo(process.surroundings));
    world.run_for(1000);
    let said = said.lock();
    assert!(said.contains(&"ConnectionReset".to_owned()), "{said:?}");
    assert!(said.last().expect("said").starts_with("answered"), "{said:?}");
}

#[test]
fn what_a_cut_held_up_arrives_after_it() {
    let (mut world, server, client, said) = world(2);
    let (server, client) = (world.ip(server), world.ip(client));
    world.net().cut(server, client);
    world.run_for(1000);
    assert!(said.lock().len() <= 1, "{said:?}");
    world.net().heal(server, client);
    world.run_for(1000);
    assert!(
        said.lock().len() > 10 && said.lock().iter().all(|word| word.starts_with("answered")),
        "{said:?}"
    );
    said.lock().clear();
    world.net().set_link(client, server, Link { least_ms: 1, most_ms: 1, bytes_per_ms: 10 });
    world.run_for(1000);
    assert!((1..=4).contains(&said.lock().len()), "3000 bytes in 300 ms: {said:?}");
}

#[test]
fn a_reset_strikes_in_the_middle() {
    let (mut world, _, _, said) = world(3);
    assert!(world.net().reset_one());
    world.run_for(300);
    let ended = said.lock().iter().filter(|word| !word.starts_with("answered")).cloned().collect::<Vec<_>>();
    assert!(ended == ["ConnectionReset"] || ended == ["UnexpectedEof"], "{ended:?}");
    assert!(said.lock().last().expect("said").starts_with("answered"));
    assert_eq!(world.net().count(), 1, "the client connected again, and the old stream is forgotten");
}

#[test]
fn a_paused_process_finds_its_clock_far_ahead() {
    let mut world = World::new(4);
    let machine = world.add_machine("a");
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    world.start(machine, |process| async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            noted
                .lock()
                .push((process.surroundings.clock.monotonic_ms(), process.surroundings.clock.now_ms()));
        }
    });
    world.run_for(100);
    world.pause(machine, 5000);
    world.run_for(6000);
    let times = times.lock();
    let jumps: Vec<i64> = times.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|ms| *ms > 50).collect();
    assert!(jumps.len() == 1 && (4980..=5020).contains(&jumps[0]), "{jumps:?}");
    let (first, last) = (times.first().expect("ran"), times.last().expect("ran"));
    assert_eq!(last.0 - first.0, last.1 - first.1, "both clocks go alike");
    assert!(last.0 >= 6080, "{last:?}");
}

#[test]
fn a_process_that_ends_lets_go_of_its_port_and_its_files() {
    let mut world = World::new(5);
    let machine = world.add_machine("a");
    for _ in 0..2 {
        world.start(machine, |process| async move {
            let surroundings = process.surroundings;
            let _listener = surroundings.network.bind("", 9, ListenOptions::default()).await;
            let _lock = surroundings.disk.lock("/lock".as_ref()).map_err(|error| error.to_string())?;
            process.asked_to_end.await.map_err(|error| error.to_string())
        });
        world.run_for(20);
        assert!(world.is_running(machine));
        world.ask_to_end(machine);
        world.run_for(20);
        assert_eq!(world.take_ended(machine), Some(Ok(())));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let hash = |seed| {
        let (mut world, server, ..) = world(seed);
        world.power_cut(server);
        world.run_for(100);
        world.start(server, |process| echo(process.surroundings));
        world.run_for(1000);
        (world.trace().hash(), world.trace().count())
    };
    for seed in 0..5 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
        assert_ne!(hash(seed), hash(seed + 1));
    }
}
