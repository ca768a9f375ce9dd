//! The executor repeats itself exactly, and nodes live and die as asked.

use env::{Clock, Spawn};
use tokio::sync::mpsc;

use super::*;

fn world(seed: u64) -> World {
    World::new(&Decisions::new(seed))
}

/// Ten tasks that tell each other numbers; the order in which they arrive.
fn story(seed: u64) -> (Vec<u64>, u128) {
    let world = world(seed);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = heard.clone();
    let inside = world.clone();
    run(&world, Limits::default(), async move {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for number in 0..10 {
            let (sender, inside) = (sender.clone(), inside.clone());
            inside.clone().spawn(0, "teller", async move {
                for _ in 0..3 {
                    inside.sleep(Duration::from_millis(5)).await;
                    sender.send(number).unwrap();
                }
            });
        }
        drop(sender);
        while let Some(number) = receiver.recv().await {
            lock(&all).push(number);
        }
    });
    assert_eq!(world.violated(), None);
    let heard = lock(&heard).clone();
    (heard, world.trace_so_far().hash)
}

#[test]
fn a_seed_repeats_itself_and_seeds_differ() {
    assert_eq!(story(1), story(1));
    assert_ne!(story(1).0, story(2).0, "the order of ready tasks is a choice");
    assert_ne!(story(1).1, story(2).1);
}

#[test]
fn a_killed_node_stops_and_a_paused_one_waits() {
    let world = world(1);
    let inside = world.clone();
    run(&world, Limits::default(), async move {
        let count = Arc::new(AtomicU64::new(0));
        for node in [1, 2] {
            inside.add_node(node, "node");
            let (count, clock) = (count.clone(), inside.clock(node));
            SimSpawn::new(&inside, node).spawn("counter", async move {
                loop {
                    clock.sleep(Duration::from_millis(1)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        inside.sleep(Duration::from_millis(10)).await;
        let before = count.load(Ordering::Relaxed);
        assert!((16..=20).contains(&before), "{before}");
        inside.kill(1);
        inside.pause(2);
        inside.sleep(Duration::from_millis(10)).await;
        assert_eq!(count.load(Ordering::Relaxed), before);
        inside.resume(2);
        inside.sleep(Duration::from_millis(10)).await;
        let after = count.load(Ordering::Relaxed) - before;
        assert!((9..=11).contains(&after), "{after}");
    });
    assert_eq!(world.violated(), None);
}

#[test]
fn a_panic_in_a_task_is_a_violation() {
    let world = world(1);
    let inside = world.clone();
    run(&world, Limits::default(), async move {
        inside.spawn(0, "careless", async { panic!("on purpose") });
        inside.sleep(Duration::from_secs(1)).await;
    });
    let violation = world.violated().unwrap();
    assert_eq!(violation.rule, "panic");
    assert!(violation.text.contains("on purpose"), "{}", violation.text);
}

#[test]
fn waiting_for_nothing_and_never_ending_are_violations() {
    let stuck = world(1);
    run(&stuck, Limits::default(), std::future::pending());
    assert_eq!(stuck.violated().unwrap().rule, "stuck");

    let slow = world(1);
    let inside = slow.clone();
    run(&slow, Limits { time: Duration::from_secs(5), polls: 1000 }, async move {
        loop {
            inside.sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(slow.violated().unwrap().rule, "L");
}

#[test]
fn clocks_drift_and_step_but_monotonic_time_never_goes_back() {
    let world = world(1);
    let inside = world.clone();
    run(&world, Limits::default(), async move {
        inside.add_node(1, "fast");
        inside.set_drift(1, 100_000);
        let clock = inside.clock(1);
        let (start, wall) = (clock.now(), clock.timestamp());
        let began = inside.now_nanos();
        clock.sleep(Duration::from_secs(11)).await;
        let took = Duration::from_nanos(inside.now_nanos() - began);
        assert!(
            took >= Duration::from_secs(10) && took < Duration::from_millis(10_001),
            "{took:?}"
        );
        assert!(clock.now() - start >= Duration::from_secs(11));
        inside.step_wall(1, -100_000);
        assert!(clock.timestamp() < wall);
        assert!(clock.now() - start >= Duration::from_secs(11));
        inside.set_drift(1, -500_000);
        let start = clock.now();
        clock.sleep(Duration::from_secs(1)).await;
        assert!(clock.now() - start >= Duration::from_secs(1));
    });
    assert_eq!(world.violated(), None);
}
