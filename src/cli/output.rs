//! What commands print: lines and tables for people, one JSON value a line for programs.
//!
//! Only results go to standard output; problems and the log go to standard error. A reader that went away is
//! no error: a node goes on serving without one.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

/// Standard output in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON lines or text.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON was asked for.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a progress bar has somebody to look at it.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Prints text as it is.
    pub fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// Prints one occurrence: `{"event":"ready","name":"a"}`, or `ready name=a`.
    pub fn record(&self, event: &str, fields: &[(&str, Value)]) {
        self.line(&if self.json { json_record(event, fields) } else { text_record(event, fields) });
    }

    /// Prints rows under headings: an array of objects, or aligned columns; without rows an empty array, or
    /// nothing.
    pub fn table(&self, headings: &[&str], rows: &[Vec<Value>]) {
        if self.json {
            let objects = rows.iter().map(|row| object(headings.iter().copied().zip(row)));
            self.line(&format!("[{}]", objects.collect::<Vec<_>>().join(",")));
        } else if !rows.is_empty() {
            self.line(&aligned(headings, rows));
        }
    }
}

/// Prints one line to standard error.
pub fn print_error(line: &str) {
    let _ = writeln!(io::stderr().lock(), "hotspare: {line}");
}

/// An object with its keys in the order given, which `serde_json`'s map does not keep.
fn object<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>) -> String {
    let fields = fields.map(|(name, value)| format!("{}:{value}", Value::from(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn json_record(event: &str, fields: &[(&str, Value)]) -> String {
    let event = Value::from(event);
    object(std::iter::once(("event", &event)).chain(fields.iter().map(|(name, value)| (*name, value))))
}

fn text_record(event: &str, fields: &[(&str, Value)]) -> String {
    let mut line = event.to_owned();
    for (name, value) in fields {
        let text = plain(value);
        // What could be taken for two fields is quoted.
        let is_one =
            !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"=".contains(c));
        let _ = if is_one { write!(line, " {name}={text}") } else { write!(line, " {name}={text:?}") };
    }
    line
}

fn aligned(headings: &[&str], rows: &[Vec<Value>]) -> String {
    let cells: Vec<Vec<String>> = std::iter::once(headings.iter().map(|heading| (*heading).to_owned()).collect())
        .chain(rows.iter().map(|row| row.iter().map(plain).collect()))
        .collect();
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..headings.len()).map(|column| width(column).unwrap_or(0)).collect();
    // A column of numbers stands to the right, under its heading.
    let is_number = |column: usize| {
        !rows.is_empty()
            && rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.is_number() || cell.is_null()))
    };
    let lines = cells.iter().map(|row| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let _ = if is_number(column) {
                write!(line, "{gap}{cell:>width$}")
            } else {
                write!(line, "{gap}{cell:<width$}")
            };
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A value as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::from("-"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_keeps_its_order_and_quotes_what_is_ambiguous() {
        let fields = [("name", json!("a b")), ("members", json!(2)), ("agent", Value::Null), ("id", json!(""))];
        assert_eq!(json_record("ready", &fields), r#"{"event":"ready","name":"a b","members":2,"agent":null,"id":""}"#);
        assert_eq!(text_record("ready", &fields), r#"ready name="a b" members=2 agent=- id="""#);
    }

    #[test]
    fn what_a_peer_chose_as_its_name_cannot_forge_a_line() {
        assert_eq!(text_record("up", &[("name", json!("x\nready name=y"))]), r#"up name="x\nready name=y""#);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec![json!("é"), json!(5)], vec![json!("long name"), json!(1234)]];
        assert_eq!(aligned(&["name", "n"], &rows), "name          n\né             5\nlong name  1234");
        assert_eq!(aligned(&["name", "n"], &[]), "name  n");
    }
}
