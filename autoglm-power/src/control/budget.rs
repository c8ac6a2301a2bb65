//! Joules per request, per task and per day into a tier, a size of pictures and a number of tokens.

/// What was spent, measured where a sensor can tell and modelled otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// Energy, in J.
    pub joules: f64,
    /// Rows of pictures and sounds that were computed.
    pub visual_tokens: f64,
    /// Words of the prompt that were computed.
    pub text_tokens: f64,
    /// Tokens that were generated.
    pub new_tokens: f64,
}

/// What a request may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Whether it may think.
    pub thinks: bool,
    /// Share of a picture's rows, by its size in pixels.
    pub visual_share: f64,
    /// Tokens after which it ends in any case.
    pub max_new_tokens: usize,
    /// Whether the budget of the day or the task is spent: the request is to be refused, or made on a supply.
    pub refused: bool,
}

/// Keeps budgets.
#[derive(Debug, Clone)]
pub struct Budgeter {
    request_j: f64,
    task_j: f64,
    day_j: f64,
    task_spent_j: f64,
    day_spent_j: f64,
    day: u64,
    /// Energy per visual token, word and new token, learned.
    per_visual_j: f64,
    per_text_j: f64,
    per_new_j: f64,
}

/// The agent's own limit of a reply.
const MAX_NEW_TOKENS: usize = 3_000;

/// Tokens without which no answer is whole.
const LEAST_NEW_TOKENS: usize = 64;

/// Tokens of an answer that thinks and one that does not: what a request is expected to generate.
const THINKING: f64 = 180.0;
const ANSWERING: f64 = 40.0;

/// Shares of a picture that are offered, the largest first.
const SHARES: [f64; 4] = [1.0, 0.75, 0.5, 0.35];

/// A day, in s.
pub(crate) const DAY_S: f64 = 86_400.0;

impl Budgeter {
    /// With budgets in J; infinite for none.
    #[must_use]
    pub fn new(request_j: f64, task_j: f64, day_j: f64) -> Self {
        Self {
            request_j,
            task_j,
            day_j,
            task_spent_j: 0.0,
            day_spent_j: 0.0,
            day: 0,
            per_visual_j: 0.1,
            per_text_j: 0.1,
            per_new_j: 1.0,
        }
    }

    /// A task begins.
    pub fn begin_task(&mut self) {
        self.task_spent_j = 0.0;
    }

    /// Energy that is left for the next request, in J.
    #[must_use]
    pub fn left_j(&self) -> f64 {
        let task = self.task_j - self.task_spent_j;
        let day = self.day_j - self.day_spent_j;
        self.request_j.min(task).min(day).max(0.0)
    }

    /// What is left of the budget of the task or of the day, whichever is nearer its end, as a fraction of it; none where
    /// neither was set.
    #[must_use]
    pub fn left(&self) -> Option<f64> {
        let of = |budget_j: f64, spent_j: f64| {
            let left = if budget_j > 0.0 { (1.0 - spent_j / budget_j).max(0.0) } else { 0.0 };
            budget_j.is_finite().then_some(left)
        };
        let lefts = [of(self.task_j, self.task_spent_j), of(self.day_j, self.day_spent_j)];
        lefts.into_iter().flatten().reduce(f64::min)
    }

    /// It is `now_s`: the budget of a day begins anew with the next one.
    pub fn pass(&mut self, now_s: f64) {
        let day = (now_s / DAY_S).max(0.0) as u64;
        if day != self.day {
            self.day = day;
            self.day_spent_j = 0.0;
        }
    }

    /// What a request of a picture of so many rows and so many new words may take.
    pub fn step(&mut self, visual_tokens: f64, text_tokens: f64, now_s: f64) -> Allowance {
        self.pass(now_s);
        let left = self.left_j();
        let text_j = text_tokens * self.per_text_j;
        let costs =
            |share: f64, tokens: f64| visual_tokens * share * self.per_visual_j + text_j + tokens * self.per_new_j;
        // Thinking goes first, then the picture shrinks: a smaller picture costs taps, thinking mostly time.
        let fits = |thinks: bool| {
            let tokens = if thinks { THINKING + ANSWERING } else { ANSWERING };
            SHARES.into_iter().find(|share| costs(*share, tokens) <= left).map(|share| (thinks, share))
        };
        let full = (costs(1.0, THINKING + ANSWERING) <= left).then_some((true, 1.0));
        let choice = full.or_else(|| fits(false));
        let (thinks, visual_share) = choice.unwrap_or((false, SHARES[SHARES.len() - 1]));
        let for_tokens = (left - costs(visual_share, 0.0)) / self.per_new_j;
        let max_new_tokens = (for_tokens.max(0.0) as usize).clamp(LEAST_NEW_TOKENS, MAX_NEW_TOKENS);
        Allowance { thinks, visual_share, max_new_tokens, refused: choice.is_none() }
    }

    /// A request is done.
    pub fn done(&mut self, spent: &Spent) {
        let joules = if spent.joules.is_finite() { spent.joules.max(0.0) } else { 0.0 };
        self.task_spent_j += joules;
        self.day_spent_j += joules;
        let expected = spent.visual_tokens * self.per_visual_j
            + spent.text_tokens * self.per_text_j
            + spent.new_tokens * self.per_new_j;
        // All three are corrected alike: their ratios are the model's, their scale the device's.
        if expected > 0.0 && joules > 0.0 {
            let correction = (joules / expected).clamp(0.2, 5.0).powf(0.3);
            for cost in [&mut self.per_visual_j, &mut self.per_text_j, &mut self.per_new_j] {
                *cost = (*cost * correction).clamp(1e-6, 1e3);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_energy_never_buys_more() {
        let rank = |a: Allowance| (a.thinks, (a.visual_share * 100.0) as u32, a.max_new_tokens);
        let mut last = None;
        for joules in [1e6, 2000.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0, 10.0, 0.0] {
            let allowed = Budgeter::new(joules, f64::INFINITY, f64::INFINITY).step(3306.0, 300.0, 0.0);
            if let Some(before) = last {
                assert!(
                    rank(allowed).0 <= rank(before).0 && rank(allowed).1 <= rank(before).1
                        || before.thinks && !allowed.thinks
                );
            }
            last = Some(allowed);
        }
        assert!(last.unwrap().refused);
    }

    #[test]
    fn budgets_of_tasks_and_days_are_kept_and_begin_anew() {
        let mut budget = Budgeter::new(f64::INFINITY, 1000.0, 2500.0);
        let spent = Spent { joules: 900.0, visual_tokens: 3306.0, text_tokens: 300.0, new_tokens: 200.0 };
        budget.begin_task();
        budget.done(&spent);
        assert_eq!(budget.left_j(), 100.0);
        budget.begin_task();
        assert_eq!(budget.left_j(), 1000.0);
        budget.done(&spent);
        budget.begin_task();
        assert_eq!(budget.left_j(), 700.0);
        assert_eq!(budget.left(), Some(700.0 / 2500.0));
        budget.pass(DAY_S + 1.0);
        assert_eq!((budget.left_j(), budget.left()), (1000.0, Some(1.0)));
        assert_eq!(Budgeter::new(1.0, f64::INFINITY, f64::INFINITY).left(), None);
        assert_eq!(Budgeter::new(1.0, f64::INFINITY, 0.0).left(), Some(0.0));
    }

    #[test]
    fn what_requests_cost_is_learned() {
        let mut budget = Budgeter::new(700.0, f64::INFINITY, f64::INFINITY);
        let before = budget.step(3306.0, 300.0, 0.0);
        let spent = Spent { joules: 2000.0, visual_tokens: 3306.0, text_tokens: 300.0, new_tokens: 220.0 };
        (0..10).for_each(|_| budget.done(&spent));
        let after = budget.step(3306.0, 300.0, 0.0);
        assert!(before.thinks && !after.thinks && after.visual_share < 1.0, "{before:?} {after:?}");
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        let mut budget = Budgeter::new(f64::INFINITY, f64::INFINITY, f64::INFINITY);
        budget.done(&Spent { joules: f64::NAN, visual_tokens: 0.0, text_tokens: 0.0, new_tokens: 0.0 });
        assert!(budget.step(3306.0, 300.0, f64::NAN).thinks);
    }
}
