//! Standard output: bytes, tables, JSON.

use std::io::{ErrorKind, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::exit::Failed;

/// Writes and flushes. A reader that has gone (`| head`) ends the program quietly.
pub(super) fn write_all(bytes: &[u8]) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failed::runtime(format!("cannot write to standard output: {error}"))),
    }
}

/// Prints one JSON value.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failed::runtime(format!("cannot print JSON: {error}")))?;
    write_all(format!("{text}\n").as_bytes())
}

/// Prints one JSON value in one line, for who reads one after another.
pub(super) fn json_line(value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failed::runtime(format!("cannot print JSON: {error}")))?;
    write_all(format!("{text}\n").as_bytes())
}

/// Prints a table; columns whose name begins with `>` are numbers, set to the right.
pub(super) fn table(columns: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failed> {
    write_all(table_text(columns, rows).as_bytes())
}

/// The table as text.
pub(super) fn table_text(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|name| name.trim_start_matches('>').to_uppercase()));
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if columns.get(index).is_some_and(|name| name.starts_with('>')) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Results per item: the successes were printed; failures become one error.
pub(super) fn failures<'a>(
    failed: impl IntoIterator<Item = (String, &'a client::ClientError)>,
) -> Result<(), Failed> {
    let lines: Vec<String> =
        failed.into_iter().map(|(name, error)| format!("{name}: {error}")).collect();
    if lines.is_empty() { Ok(()) } else { Err(Failed::runtime(lines.join("\n"))) }
}
