//! What a topic may be called.

use types::ErrorCode;

use super::Refusal;
use crate::metadata::Image;

/// Longest name: it must fit a file name with `-<partition>` and more behind it.
const NAME_LEN_MAX: usize = 249;

/// Refuses a name that no topic may have.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let what = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.chars().count() > NAME_LEN_MAX {
        format!("the length of '{name}' is longer than the max allowed length {NAME_LEN_MAX}")
    } else if !name.chars().all(is_legal) {
        format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {what}")))
}

/// Whether metric names cannot tell the two apart: '.' and '_' are the same there.
fn is_collision(a: &str, b: &str) -> bool {
    let same = |c: u8| if c == b'.' { b'_' } else { c };
    a.len() == b.len() && a.bytes().map(same).eq(b.bytes().map(same))
}

/// Refuses a name that collides with a topic's of `image`. Looks only if the name has one of the two characters.
pub(super) fn check_collision(name: &str, image: &Image) -> Result<(), Refusal> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let other = image
        .topics()
        .find(|topic| topic.name.as_str() != name && is_collision(topic.name.as_str(), name));
    match other {
        None => Ok(()),
        Some(topic) => Err(Refusal::new(
            ErrorCode::InvalidTopicException,
            format!("Topic '{name}' collides with existing topic: {}", topic.name),
        )),
    }
}
