//! How much of the model a request gets: all of it, or the little that a quick step needs.

use autoglm_core::Keep;

/// How much a request gets. A [`Session`](crate::Session) has one for its pictures and replies, and a reply may have
/// another for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tier {
    /// No thought, as with [`Thinking::Skipped`](crate::Thinking::Skipped), and half of a picture's rows where no other share
    /// was asked for.
    Fast,
    /// Whatever the other options say, and nothing less.
    #[default]
    Deep,
    /// One of the two, by what is asked and by the [`Outlook`]: see [`Tier::for_request`].
    Auto,
}

/// What is left for a request, as far as somebody knows. What nobody knows restricts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outlook {
    /// What is left in the battery, as a fraction of its full charge; none on a supply.
    pub charge: Option<f64>,
    /// What is left of a budget that the user set, of energy or of time, as a fraction of it.
    pub budget_left: Option<f64>,
}

/// What is known of a request before it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// Whether nothing was answered yet in this conversation: what the first answer gets wrong, all later ones build on.
    pub first: bool,
    /// Characters of the user's turn.
    pub characters: usize,
}

/// Below this fraction of the battery or of the budget every request is a quick one. Android turns its own saver on at a fifth.
const SCARCE: f64 = 0.2;

/// A turn of more characters than a short command is a question to think about. Chosen, not measured.
const COMMAND: usize = 80;

/// Rows of a picture that a quick step shows: half of them are enough for 98 of 100 taps of the tiny checkpoint
/// (docs/picture-rows.md).
const QUICK_ROWS: f64 = 0.5;

impl Tier {
    /// [`Tier::Fast`] or [`Tier::Deep`]: what [`Tier::Auto`] comes to, and the others are. Where little is left it is the
    /// fast one; else the first step of a conversation and long turns are thought about, and short further steps are not.
    /// A number that is none counts as nothing left.
    #[must_use]
    pub fn for_request(self, request: &Request, outlook: &Outlook) -> Self {
        if self != Self::Auto {
            return self;
        }
        // Written so that a NaN is scarce.
        let enough = |left: Option<f64>| left.is_none_or(|left| left >= SCARCE);
        let thinks = request.first || request.characters > COMMAND;
        if thinks && enough(outlook.charge) && enough(outlook.budget_left) { Self::Deep } else { Self::Fast }
    }

    /// Which rows of a picture stay where `asked` was asked for: what the user chose stands.
    pub(crate) fn keep(self, asked: Keep) -> Keep {
        match self {
            Self::Fast if asked == Keep::ALL => Keep::share(QUICK_ROWS).unwrap_or(asked),
            _ => asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_what_it_is_whatever_is_left() {
        let empty = Outlook { charge: Some(0.0), budget_left: Some(0.0) };
        for tier in [Tier::Fast, Tier::Deep] {
            assert_eq!(tier.for_request(&Request::default(), &empty), tier);
        }
    }

    #[test]
    fn a_first_step_and_a_long_turn_are_thought_about_and_a_further_step_is_not() {
        let auto = |first, characters| Tier::Auto.for_request(&Request { first, characters }, &Outlook::default());
        assert_eq!(auto(true, 4), Tier::Deep);
        assert_eq!(auto(false, 4), Tier::Fast);
        assert_eq!(auto(false, COMMAND), Tier::Fast);
        assert_eq!(auto(false, COMMAND + 1), Tier::Deep);
    }

    #[test]
    fn less_is_left_and_never_more_is_spent() {
        let first = Request { first: true, characters: 500 };
        let left = [None, Some(1.0), Some(SCARCE), Some(0.19), Some(0.0), Some(-1.0), Some(f64::NAN)];
        for charge in left {
            for budget_left in left {
                let scarce = [charge, budget_left].into_iter().flatten().any(|left| left.is_nan() || left < SCARCE);
                let tier = Tier::Auto.for_request(&first, &Outlook { charge, budget_left });
                assert_eq!(tier == Tier::Fast, scarce, "{charge:?} {budget_left:?}");
            }
        }
    }

    #[test]
    fn a_share_of_rows_that_was_asked_for_stands() {
        let third = Keep::share(0.3).unwrap();
        assert_eq!(Tier::Fast.keep(Keep::ALL), Keep::share(0.5).unwrap());
        assert_eq!([Tier::Fast, Tier::Deep].map(|tier| tier.keep(third)), [third; 2]);
        assert_eq!(Tier::Deep.keep(Keep::ALL), Keep::ALL);
    }
}
