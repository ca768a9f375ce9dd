//! Text of a message: cheap to clone, free when empty.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{GroupId, MemberId, TopicName, TransactionalId};

/// Immutable text, shared when cloned. It owns its bytes: keeping one does not keep the frame it came in. The names of
/// this crate ([`TopicName`] and its like) convert to and fro without a copy.
#[derive(Clone, Default)]
pub struct Str(Option<Arc<str>>);

impl Str {
    /// The empty text.
    pub const EMPTY: Str = Str(None);

    /// The text itself.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    fn into_shared(self) -> Arc<str> {
        self.0.unwrap_or_default()
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        if text.is_empty() { Str(None) } else { Str(Some(text.into())) }
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str::from(text.as_str())
    }
}

impl From<&String> for Str {
    fn from(text: &String) -> Str {
        Str::from(text.as_str())
    }
}

impl From<Arc<str>> for Str {
    fn from(text: Arc<str>) -> Str {
        Str(Some(text))
    }
}

impl From<Str> for String {
    fn from(text: Str) -> String {
        text.as_str().to_owned()
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        $(
            impl From<$name> for Str {
                fn from(name: $name) -> Str {
                    Str(Some(name.0))
                }
            }

            impl From<&$name> for Str {
                fn from(name: &$name) -> Str {
                    Str(Some(Arc::clone(&name.0)))
                }
            }

            impl From<Str> for $name {
                fn from(text: Str) -> $name {
                    $name(text.into_shared())
                }
            }

            impl From<&Str> for $name {
                fn from(text: &Str) -> $name {
                    $name(text.clone().into_shared())
                }
            }
        )*
    };
}

names!(TopicName GroupId MemberId TransactionalId);

impl PartialEq for Str {
    fn eq(&self, other: &Str) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Str) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Str) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl Serialize for Str {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Str {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Str, D::Error> {
        String::deserialize(deserializer).map(Str::from)
    }
}
