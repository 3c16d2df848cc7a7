//! Lists come in pages: a bound on rows, and the id after which to go on.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use crate::error::Result;

pub const PAGE_MAX: u32 = 1_000;

/// `limit` is cut to [`PAGE_MAX`]; `marker` is the `next` of the page before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageAsk {
    pub limit: Option<u32>,
    pub marker: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// `None` on the last page.
    pub next: Option<String>,
}

/// All pages of a list, one after another: for what is small as a whole, or needed as a whole.
pub async fn every<T, P: Future<Output = Result<Page<T>>>>(mut list: impl FnMut(PageAsk) -> P) -> Result<Vec<T>> {
    let mut items = Vec::new();
    let mut ask = PageAsk::default();
    loop {
        let page = list(ask).await?;
        items.extend(page.items);
        match page.next {
            Some(marker) => ask = PageAsk { limit: None, marker: Some(marker) },
            None => return Ok(items),
        }
    }
}

impl PageAsk {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX) as usize
    }

    /// For `LIMIT`: one more than asked tells whether there is a next page.
    pub(crate) fn rows(&self) -> i64 {
        self.limit() as i64 + 1
    }

    /// For `id > $n`: every id is greater than the empty one.
    pub(crate) fn after(&self) -> &str {
        self.marker.as_deref().unwrap_or_default()
    }

    pub(crate) fn page<T>(
        &self,
        rows: &[AnyRow],
        read: impl Fn(&AnyRow) -> Result<T>,
        id: impl Fn(&T) -> String,
    ) -> Result<Page<T>> {
        let limit = self.limit();
        let items = rows.iter().take(limit).map(read).collect::<Result<Vec<T>>>()?;
        let next = if rows.len() > limit { items.last().map(id) } else { None };
        Ok(Page { items, next })
    }
}
