//! Progress for commands that take a while: a bar on a terminal, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;

/// A bar of `steps` steps, hidden unless standard error is a terminal and JSON was not asked for.
#[must_use]
pub fn bar(out: &Output, steps: u64) -> ProgressBar {
    styled(out, ProgressBar::new(steps), "{bar:32} {pos}/{len} {wide_msg}")
}

/// A sign of life for work of unknown length, hidden like [`bar`].
#[must_use]
pub fn spinner(out: &Output) -> ProgressBar {
    let spinner = styled(out, ProgressBar::new_spinner(), "{spinner} {wide_msg}");
    if !spinner.is_hidden() {
        spinner.enable_steady_tick(Duration::from_millis(100));
    }
    spinner
}

fn styled(out: &Output, bar: ProgressBar, template: &str) -> ProgressBar {
    if !out.is_watched() {
        return ProgressBar::hidden();
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
