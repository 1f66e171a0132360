//! Values with the places where a spec says them.

use super::diagnostic::Span;

/// A value with the place where the spec says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Spanned<T> {
    /// Returns `value` as read at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
    /// Returns the value made of this one, at the same place.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: make(self.value), span: self.span }
    }
}
