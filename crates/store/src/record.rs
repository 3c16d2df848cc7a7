//! Columns to types and back, with the object's name in every error.

use std::{fmt::Display, str::FromStr};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use crate::error::{Result, StoreError, db};

/// A row of `object`, whose first column is its id or name.
pub(crate) struct Record<'r> {
    object: &'static str,
    id: String,
    row: &'r AnyRow,
}

impl<'r> Record<'r> {
    pub(crate) fn new(object: &'static str, row: &'r AnyRow) -> Result<Self> {
        let id = row.try_get(0).map_err(db("read"))?;
        Ok(Record { object, id, row })
    }

    pub(crate) fn corrupt(&self, column: &'static str, reason: impl Display) -> StoreError {
        StoreError::Corrupt { object: self.object, id: self.id.clone(), column, reason: reason.to_string() }
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String> {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn text_opt(&self, column: &'static str) -> Result<Option<String>> {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn us(&self, column: &'static str) -> Result<i64> {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn real(&self, column: &'static str) -> Result<f64> {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn us_opt(&self, column: &'static str) -> Result<Option<i64>> {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn number<N: TryFrom<i64>>(&self, column: &'static str) -> Result<N> {
        let value: i64 = self.us(column)?;
        N::try_from(value).map_err(|_| self.corrupt(column, format!("{value} is out of range")))
    }

    /// A BIGINT of 0 or 1.
    pub(crate) fn flag(&self, column: &'static str) -> Result<bool> {
        match self.us(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.corrupt(column, format!("{other} is neither 0 nor 1"))),
        }
    }

    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T> {
        self.text(column)?.parse().map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn parsed_opt<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<Option<T>> {
        let text = self.text_opt(column)?;
        text.map(|text| text.parse().map_err(|error| self.corrupt(column, error))).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn json_opt<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>> {
        let text = self.text_opt(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.corrupt(column, error))).transpose()
    }
}

/// All records are plain structs and maps with text keys, which always have a JSON form.
pub(crate) fn json<T: Serialize>(
    object: &'static str,
    id: impl ToString,
    column: &'static str,
    value: &T,
) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt {
        object,
        id: id.to_string(),
        column,
        reason: error.to_string(),
    })
}

/// BIGINT is signed; a size that does not fit is beyond any disk or memory.
pub(crate) fn bigint(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// An enum kept as a word.
macro_rules! stored_words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> std::result::Result<Self, String> {
                match text { $($word => Ok($name::$variant),)+ other => Err(format!("'{other}' is not known")) }
            }
        }
    };
}
pub(crate) use stored_words;
