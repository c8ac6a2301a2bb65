//! What a phone's owner asks for, and when.

use std::io::Read as _;
use std::path::Path;

use crate::control::DAY_S;
use crate::{Error, Result};

/// What happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// When, in s from the beginning.
    pub at_s: f64,
    /// What.
    pub kind: EventKind,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EventKind {
    /// The agent is asked for its next action. A step that comes while another runs waits for it.
    Step {
        /// Words of the whole prompt: the instructions, what was said and done in this task, and this turn.
        text_tokens: f64,
        /// Rows of the screenshot.
        visual_tokens: f64,
        /// Tokens that it thinks, if it thinks.
        think_tokens: f64,
        /// Tokens of its answer.
        answer_tokens: f64,
    },
    /// The steps so far were one task, which is done.
    TaskEnd,
    /// The owner turns the screen on.
    ScreenOn,
    /// The owner turns it off. During a task it stays on.
    ScreenOff,
}

/// Events in the order of time. What follows them is the same again: the trace repeats after the whole number of days that
/// it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its name: that of the file without its ending.
    pub name: String,
    events: Vec<Event>,
}

/// A year at most, a hundred thousand events at most.
const LONGEST_S: f64 = 366.0 * DAY_S;
const EVENTS: usize = 100_000;
/// Tokens of a whole trace: years of a busy owner's.
const ALL_TOKENS: f64 = 1e8;
const FILE_BYTES: u64 = 64 << 20;
/// More tokens than any context has.
const TOKENS: u64 = 1_000_000;

const COLUMNS: [&str; 6] = ["t_s", "event", "text_tokens", "visual_tokens", "think_tokens", "answer_tokens"];

impl Trace {
    /// Reads a trace with the columns `t_s,event,text_tokens,visual_tokens,think_tokens,answer_tokens`, of which the last
    /// four are empty or zero for what is no step.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Trace`] with the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = file(path, FILE_BYTES)?;
        Self::parse(&path.file_stem().unwrap_or_default().to_string_lossy(), &text)
    }

    /// A trace from its text.
    ///
    /// # Errors
    /// [`Error::Trace`] as for [`Trace::read`].
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let refuse = |line: u64, why: String| Error::Trace { name: name.to_owned(), line, why };
        let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
        let header = rows.headers().map_err(|e| refuse(1, e.to_string()))?.clone();
        if header.iter().ne(COLUMNS) {
            let got: Vec<&str> = header.iter().take(8).collect();
            return Err(refuse(1, format!("the columns are {:?} where {COLUMNS:?} are expected", got)));
        }
        let mut events: Vec<Event> = Vec::new();
        let mut all_tokens = 0.0;
        for row in rows.records() {
            let row = row.map_err(|e| refuse(e.position().map_or(0, csv::Position::line), e.to_string()))?;
            let line = row.position().map_or(0, csv::Position::line);
            let event = event(&row).map_err(|why| refuse(line, why))?;
            if events.last().is_some_and(|last| last.at_s > event.at_s) {
                return Err(refuse(line, format!("t_s {} lies before the line above", event.at_s)));
            }
            if let EventKind::Step { text_tokens, visual_tokens, think_tokens, answer_tokens } = event.kind {
                all_tokens += text_tokens + visual_tokens + think_tokens + answer_tokens;
            }
            if all_tokens > ALL_TOKENS {
                return Err(refuse(line, format!("more than {ALL_TOKENS} tokens so far")));
            }
            if events.len() == EVENTS {
                return Err(refuse(line, format!("more than {EVENTS} events")));
            }
            events.push(event);
        }
        if events.is_empty() {
            return Err(refuse(1, "no event".to_owned()));
        }
        Ok(Self { name: name.to_owned(), events })
    }

    /// Days of an owner who gives this many tasks a day, spread over the waking hours, each of 5 to 11 steps with a
    /// screenshot of 1080 × 2400, and who looks at the screen for four hours a day beside that.
    #[must_use]
    pub fn synthetic(tasks_per_day: usize, days: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut events = Vec::new();
        for day in 0..days {
            let (wakes, sleeps) = (day as f64 * DAY_S + 7.0 * 3600.0, day as f64 * DAY_S + 23.0 * 3600.0);
            for session in 0..48 {
                let begins = wakes + f64::from(session) * 1200.0;
                events.push(Event { at_s: begins, kind: EventKind::ScreenOn });
                events.push(Event { at_s: begins + 300.0, kind: EventKind::ScreenOff });
            }
            let mut starts: Vec<f64> = (0..tasks_per_day).map(|_| wakes + random.f64() * (sleeps - wakes)).collect();
            starts.sort_by(f64::total_cmp);
            let mut earliest = wakes;
            for start in starts {
                // Tasks are given one after the other.
                let start = start.max(earliest);
                earliest = start + 60.0;
                let steps = random.usize(5..=11);
                for step in 0..steps {
                    let kind = EventKind::Step {
                        text_tokens: 2150.0 + 150.0 * step as f64,
                        visual_tokens: 3306.0,
                        think_tokens: random.u32(100..=180).into(),
                        answer_tokens: random.u32(30..=50).into(),
                    };
                    events.push(Event { at_s: start + step as f64, kind });
                }
                events.push(Event { at_s: start + steps as f64, kind: EventKind::TaskEnd });
            }
        }
        events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        Self { name: format!("{tasks_per_day}-a-day"), events }
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// After which it repeats, in s.
    #[must_use]
    pub fn period_s(&self) -> f64 {
        let last = self.events.last().map_or(0.0, |event| event.at_s);
        (last / DAY_S).floor().mul_add(DAY_S, DAY_S)
    }

    /// The same without a step: what the phone does without the agent.
    #[must_use]
    pub fn without_steps(&self) -> Self {
        let kept = |event: &&Event| matches!(event.kind, EventKind::ScreenOn | EventKind::ScreenOff);
        Self { name: self.name.clone(), events: self.events.iter().filter(kept).copied().collect() }
    }

    /// As a file of the same trace has it, to the bit.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = COLUMNS.join(",") + "\n";
        for Event { at_s, kind } in &self.events {
            text += &match kind {
                EventKind::Step { text_tokens, visual_tokens, think_tokens, answer_tokens } => {
                    format!("{at_s},step,{text_tokens},{visual_tokens},{think_tokens},{answer_tokens}\n")
                }
                EventKind::TaskEnd => format!("{at_s},task_end,,,,\n"),
                EventKind::ScreenOn => format!("{at_s},screen_on,,,,\n"),
                EventKind::ScreenOff => format!("{at_s},screen_off,,,,\n"),
            };
        }
        text
    }
}

fn event(row: &csv::StringRecord) -> std::result::Result<Event, String> {
    let field = |index: usize| row.get(index).unwrap_or_default();
    let at_s: f64 = field(0).parse().map_err(|_| format!("t_s is {:?}", field(0)))?;
    if !(0.0..LONGEST_S).contains(&at_s) {
        return Err(format!("t_s is {at_s}, where 0 to {LONGEST_S} is expected"));
    }
    let tokens = |index: usize| match field(index) {
        "" => Ok(0.0),
        text => match text.parse::<u64>() {
            Ok(tokens) if tokens <= TOKENS => Ok(tokens as f64),
            _ => Err(format!("{} is {text:?}", COLUMNS[index])),
        },
    };
    let [text_tokens, visual_tokens, think_tokens, answer_tokens] = [tokens(2)?, tokens(3)?, tokens(4)?, tokens(5)?];
    let kind = match field(1) {
        "step" if text_tokens + visual_tokens == 0.0 => return Err("a step without a prompt".to_owned()),
        "step" => EventKind::Step { text_tokens, visual_tokens, think_tokens, answer_tokens },
        other if text_tokens + visual_tokens + think_tokens + answer_tokens > 0.0 => {
            return Err(format!("{other:?} with tokens"));
        }
        "task_end" => EventKind::TaskEnd,
        "screen_on" => EventKind::ScreenOn,
        "screen_off" => EventKind::ScreenOff,
        other => return Err(format!("event is {other:?}, where step, task_end, screen_on or screen_off is expected")),
    };
    Ok(Event { at_s, kind })
}

/// A file of at most so many bytes, as text.
pub(super) fn file(path: &Path, limit: u64) -> Result<String> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > limit {
        let got = text.chars().take(40).collect();
        return Err(Error::Content { path: path.to_owned(), got, why: "goes on for more bytes than such a file has" });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "t_s,event,text_tokens,visual_tokens,think_tokens,answer_tokens\n";

    #[test]
    fn what_was_written_reads_the_same() {
        let day = Trace::synthetic(6, 2, 7);
        let read = Trace::parse(&day.name, &day.to_csv()).unwrap();
        assert_eq!(read, day);
        assert_eq!(read.period_s(), 2.0 * DAY_S);
        assert_eq!(Trace::synthetic(6, 2, 7), day);
        assert_ne!(Trace::synthetic(6, 2, 8), day);
    }

    #[test]
    fn tasks_do_not_mix_even_where_there_are_many() {
        let day = Trace::synthetic(1000, 1, 3);
        let mut text_before = 0.0;
        for event in day.events() {
            match event.kind {
                EventKind::Step { text_tokens, .. } => {
                    assert!(text_tokens == 2150.0 && text_before == 0.0 || text_tokens == text_before + 150.0);
                    text_before = text_tokens;
                }
                EventKind::TaskEnd => text_before = 0.0,
                _ => {}
            }
        }
    }

    #[test]
    fn damage_is_named_by_its_line() {
        for (rows, line, word) in [
            ("", 1, "no event"),
            ("5,step,1,1,1,1\n4,task_end,,,,\n", 3, "before"),
            ("5,jump,1,1,1,1\n", 2, "jump"),
            ("5,step,-1,1,1,1\n", 2, "text_tokens"),
            ("5,step,1,1e3,1,1\n", 2, "visual_tokens"),
            ("5,step,0,0,1,1\n", 2, "prompt"),
            ("nan,step,1,1,1,1\n", 2, "t_s"),
            ("-1,step,1,1,1,1\n", 2, "t_s"),
            ("1e300,step,1,1,1,1\n", 2, "t_s"),
            ("5,screen_on,1,,,\n", 2, "screen_on"),
            ("5,step,1,1,1\n", 2, "fields"),
        ] {
            let error = Trace::parse("x", &format!("{HEADER}{rows}")).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(&format!("line {line}")), "{rows:?}: {error}");
        }
        let columns = HEADER.replace("think_tokens,", "");
        assert!(Trace::parse("x", &columns).unwrap_err().to_string().contains("columns"));
    }
}
