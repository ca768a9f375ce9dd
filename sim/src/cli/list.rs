//! `foretold-sim list`: what there is, and how often it has been hit.

use serde_json::json;

use crate::checker;
use crate::cli::summary::Hits;
use crate::fault::FaultKind;
use crate::mark;
use crate::scenario::Name;

/// Prints scenarios, faults, checkers and marks.
pub fn list(as_json: bool) -> u8 {
    let hits = Hits::load();
    let times = |code: &str| hits.faults.get(code).copied().unwrap_or(0);
    if as_json {
        let faults: Vec<_> = FaultKind::ALL
            .iter()
            .map(|kind| json!({"code": kind.code(), "text": kind.text(), "hits": times(kind.code())}))
            .collect();
        let scenarios: Vec<_> = Name::ALL
            .iter()
            .map(|name| json!({"name": name.text(), "text": name.about()}))
            .collect();
        let checkers: Vec<_> = checker::ALL
            .iter()
            .map(|checker| json!({"rule": checker.rule, "text": checker.text}))
            .collect();
        let marks: Vec<_> = mark::ALL
            .iter()
            .map(|name| json!({"name": name, "hits": hits.marks.get(*name).copied().unwrap_or(0)}))
            .collect();
        let all = json!({
            "seeds": hits.seeds, "scenarios": scenarios, "faults": faults, "checkers": checkers, "marks": marks,
        });
        println!("{all}");
        return 0;
    }
    println!("Scenarios");
    for name in Name::ALL {
        println!("  {:<10} {}", name.text(), name.about());
    }
    println!("\nFaults (hits in {} seeds of this build)", hits.seeds);
    for kind in FaultKind::ALL {
        println!("  {:<4} {:>12}  {}", kind.code(), times(kind.code()), kind.text());
    }
    println!("\nCheckers");
    for checker in checker::ALL {
        println!("  {:<4} {}", checker.rule, checker.text);
    }
    println!("\nMarks");
    for name in mark::ALL {
        println!("  {:>12}  {name}", hits.marks.get(*name).copied().unwrap_or(0));
    }
    0
}
