//! Settings in TOML: reads a text into [`Layers`], and quotes values for a dump.
//!
//! Only the shape is judged here (tables, keys, types of values); what a text means is the table's affair.

use std::sync::Arc;

use toml_edit::{Document, Item, Value};

use super::Problem;
use super::keys::{KEYS, Key};
use super::layers::{Layers, Origin, PRESET, nearest};
use super::value::Shape;

/// Adds every setting and every problem of a text.
pub(super) fn read(name: &str, text: &str, layers: &mut Layers) {
    let at = At { name: name.into(), text };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(why) => {
            let message = why.message().lines().next().unwrap_or_default().to_owned();
            layers.push_problem(Problem::error(format!("is no TOML: {message}"), &[]).at(at.line(why.span())));
            return;
        }
    };
    for (section, item) in document.iter() {
        let origin = at.key(&*document, section, item);
        if let (PRESET, Some(preset)) = (section, item.as_str()) {
            layers.push_preset(preset, origin);
        } else if !KEYS.iter().any(|key| key.section() == section) {
            // Most likely a setting without its section.
            let message = match KEYS.iter().find(|key| key.path.split_once('.').is_some_and(|(_, k)| k == section)) {
                Some(key) => format!("unknown setting {section}; did you mean {}?", key.path),
                None => unknown(section, KEYS.iter().map(|key| key.section().to_owned())),
            };
            layers.push_problem(Problem::error(message, &[]).at(origin));
        } else if let Some(table) = item.as_table_like() {
            for (key, item) in table.iter() {
                let origin = at.key(table, key, item);
                read_setting(&format!("{section}.{key}"), item, origin, layers);
            }
        } else {
            layers.push_problem(Problem::error(format!("{section} must be a table: [{section}]"), &[]).at(origin));
        }
    }
}

fn read_setting(path: &str, item: &Item, origin: Origin, layers: &mut Layers) {
    let Some(key) = Key::by_path(path) else {
        let paths = KEYS.iter().map(|key| key.path.to_owned());
        layers.push_problem(Problem::error(unknown(path, paths), &[]).at(origin));
        return;
    };
    match (item.as_value(), key.shape) {
        (Some(Value::String(text)), Shape::Count) if !(key.auto && text.value() == super::value::AUTO) => {
            layers.push_unreadable(key, "a number is written without quotes", origin);
        }
        (Some(Value::String(_)), Shape::Switch) => {
            layers.push_unreadable(key, "true and false are written without quotes", origin);
        }
        (Some(Value::String(text)), _) => layers.push(key, text.value(), origin),
        (Some(Value::Integer(number)), Shape::Count | Shape::Duration | Shape::Size) => {
            layers.push(key, &number.value().to_string(), origin);
        }
        (Some(Value::Boolean(switch)), Shape::Switch) => layers.push(key, &switch.value().to_string(), origin),
        _ => {
            let expected = match key.shape {
                Shape::Switch => "true or false",
                Shape::Count => "a whole number",
                Shape::Duration => "a duration, as in \"200ms\"",
                Shape::Size => "a size, as in \"64MiB\"",
                Shape::Text | Shape::Address | Shape::Group | Shape::Choice(_) => "a text in quotes",
            };
            layers.push_unreadable(key, &format!("is {}, not {expected}", item.type_name()), origin);
        }
    }
}

/// A text as a TOML string: literal where that saves escapes.
pub(super) fn quote(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn unknown(name: &str, known: impl Iterator<Item = String>) -> String {
    format!("unknown setting {name}{}", nearest(name, known))
}

/// Turns places in a text into origins.
struct At<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl At<'_> {
    /// Where a key of a table stands.
    fn key(&self, table: &dyn toml_edit::TableLike, key: &str, item: &Item) -> Origin {
        let span = table.get_key_value(key).and_then(|(key, _)| key.span()).or_else(|| item.span());
        self.line(span)
    }

    fn line(&self, span: Option<std::ops::Range<usize>>) -> Origin {
        let line = span.map_or(0, |span| {
            let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
            1 + before.iter().filter(|b| **b == b'\n').count()
        });
        Origin::File(Arc::clone(&self.name), line)
    }
}
