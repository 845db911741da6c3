//! The URI filter: requests whose URI matches send nothing at their end.
//!
//! Two written forms are in use and both are taken: the list of patterns separated by `;` of Tomcat 5, and
//! the single regular expression of its successors. Either way a pattern must match the *whole* URI. A `;`
//! list handed to the newer form is accepted there and matches nothing; here the form is told by the `;`
//! itself.
//!
//! Invariant: matching takes time linear in the URI, and a compiled filter's size is bounded.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// A compiled filter. Cheap to clone, and shared by all threads.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None` filters nothing.
    regex: Option<Regex>,
}

impl Filter {
    /// Compiles a `;` list of patterns or one regular expression; the empty text filters nothing.
    ///
    /// White space around a pattern and empty patterns (a final `;`) are ignored. A pattern that must contain a
    /// semicolon writes it as `\x3B`.
    ///
    /// # Errors
    /// Names the first pattern that is not usable. Look-around and back-references are not, because with them
    /// matching has no bound.
    pub fn compile(text: &str) -> Result<Self, FilterError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(FilterError::TooLong(text.len()));
        }
        let patterns: Vec<&str> = text.split(';').map(str::trim).filter(|pattern| !pattern.is_empty()).collect();
        // Each alone first: `a)|(b` is no pattern, although a joined expression could make one of it.
        for pattern in &patterns {
            build(pattern).map_err(|why| FilterError::pattern(pattern, &why))?;
        }
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let joined = format!(r"\A(?:(?:{}))\z", patterns.join(")|(?:"));
        let regex = build(&joined).map_err(|why| FilterError::pattern(text, &why))?;
        Ok(Self { regex: Some(regex) })
    }

    /// Whether a request for this URI (the path, without its query) sends nothing.
    #[must_use]
    pub fn matches(&self, uri: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(uri))
    }

    /// Whether it filters nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regex.is_none()
    }
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterError {
    /// Longer than is compiled: its bytes.
    TooLong(usize),
    /// A pattern is wrong, or too large once compiled: the pattern, and why.
    Pattern(String, String),
}

impl FilterError {
    fn pattern(pattern: &str, why: &regex::Error) -> Self {
        let why = match why {
            regex::Error::CompiledTooBig(bytes) => format!("compiles to more than {bytes} bytes"),
            // The parser draws the pattern over several lines; the last one says what is wrong.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        };
        Self::Pattern(pattern.to_owned(), why)
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "the filter has {bytes} bytes, more than {TEXT_BYTES_MAX}"),
            Self::Pattern(pattern, why) => {
                write!(f, "the pattern {pattern:?} is not usable: {why}")
            }
        }
    }
}

impl std::error::Error for FilterError {}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
}

/// Far above any filter in use; keeps a hostile file from keeping the compiler busy.
const TEXT_BYTES_MAX: usize = 8192;
/// A list of 50 file endings compiles to less than 64 KiB.
const COMPILED_BYTES_MAX: usize = 1 << 20;
const NEST_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// As the production site of Tomcat 5.5 wrote it.
    const SITE: &str = r".*\.gif;.*\.js;.*\.jpg;.*\.png;.*\.htm;.*\.html;.*\.css;.*\.txt;";

    #[test]
    fn a_list_matches_the_whole_uri_with_any_of_its_patterns() {
        let filter = Filter::compile(SITE).unwrap();
        for uri in ["/a.gif", "/shop/img/x.png", "/index.html", "/index.htm", ".css", "/a.gif.txt"] {
            assert!(filter.matches(uri), "{uri}");
        }
        for uri in ["/cart", "/a.gif/edit", "/a.gifx", "/agif", "/a.GIF", "/x.js;jsessionid=1", ""] {
            assert!(!filter.matches(uri), "{uri}");
        }
    }

    #[test]
    fn a_single_expression_matches_the_whole_uri_too() {
        let filter = Filter::compile(r".*\.gif|.*\.js|/static/.*").unwrap();
        assert!(filter.matches("/a.gif") && filter.matches("/x.js") && filter.matches("/static/a/b"));
        // Anchors bind the alternation as a whole, not its first and last branch.
        assert!(!filter.matches("/a.gif/edit") && !filter.matches("/app/static/x"));
        // The shorter alternative does not hide the longer one.
        assert!(Filter::compile("/a|/ab").unwrap().matches("/ab"));
    }

    #[test]
    fn both_forms_of_the_same_filter_agree() {
        let list = Filter::compile(SITE).unwrap();
        let single = Filter::compile(r".*\.gif|.*\.js|.*\.jpg|.*\.png|.*\.htm|.*\.html|.*\.css|.*\.txt").unwrap();
        for uri in ["/a.gif", "/a.html", "/a.htm", "/a.txt", "/a", "/gif", "/a.js/x", "/a.jpeg"] {
            assert_eq!(list.matches(uri), single.matches(uri), "{uri}");
        }
    }

    #[test]
    fn an_empty_filter_filters_nothing() {
        for text in ["", ";", " ; ;"] {
            let filter = Filter::compile(text).unwrap();
            assert!(filter.is_empty());
            assert!(!filter.matches("") && !filter.matches("/a.gif"));
        }
    }

    #[test]
    fn a_semicolon_inside_a_pattern_has_an_escape() {
        assert!(Filter::compile(r".*\x3Bjsessionid=.*").unwrap().matches("/a;jsessionid=1"));
    }

    #[test]
    fn a_wrong_pattern_is_named_with_the_reason() {
        let error = Filter::compile(r".*\.gif;a)|(b;.*\.js").unwrap_err();
        assert_eq!(error.to_string(), r#"the pattern "a)|(b" is not usable: unopened group"#);
        assert!(Filter::compile(r"(?=x)").unwrap_err().to_string().contains("look-around"));
        // What takes a backtracking engine exponential time takes linear time here.
        assert!(Filter::compile("(a+)+$").unwrap().matches(&"a".repeat(10_000)));
    }

    #[test]
    fn size_is_bounded_before_and_after_compiling() {
        assert_eq!(Filter::compile(&"a".repeat(8193)).unwrap_err(), FilterError::TooLong(8193));
        assert!(matches!(Filter::compile(r"(?:\pL{1000}){1000}"), Err(FilterError::Pattern(..))));
        assert!(matches!(Filter::compile(&"(".repeat(4000)), Err(FilterError::Pattern(..))));
    }
}
