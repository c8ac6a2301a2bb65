//! What AutoGLM answers: a thought, then one call of `do(…)` or `finish(…)`.
//!
//! The grammar is the one of the agent's system prompt: keyword arguments with Python literals, and
//! coordinates from 0 to 999 on both axes of the original screenshot, whatever size the model saw.
//! Like the reference client, the parser takes the text of `Type` and the message of `finish` as
//! everything up to the closing `")`, because models do not escape quotes inside them.

use std::time::Duration;

mod literal;

use literal::{Value, arguments};

/// A place on the screen in thousandths of its width and height, 0–999 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    /// From the left edge.
    pub x: u16,
    /// From the top edge.
    pub y: u16,
}

impl Point {
    /// The pixel on a screen of `width` × `height`: ⌊v · size / 1000⌋ on each axis, as the reference
    /// client computes it.
    #[must_use]
    pub fn pixel(self, width: u32, height: u32) -> (u32, u32) {
        let scale = |v: u16, size: u32| (u64::from(v) * u64::from(size) / 1000) as u32;
        (scale(self.x, width), scale(self.y, height))
    }
}

/// One step on the phone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Start an app by its name.
    Launch {
        /// The app's display name.
        app: String,
    },
    /// Tap once.
    Tap {
        /// Where.
        at: Point,
        /// Set when the user should confirm a sensitive tap first.
        message: Option<String>,
    },
    /// Type into the focused field, replacing its content.
    Type {
        /// What to type.
        text: String,
    },
    /// Drag from one point to another.
    Swipe {
        /// Where the finger goes down.
        start: Point,
        /// Where it is lifted.
        end: Point,
    },
    /// Press and hold.
    LongPress {
        /// Where.
        at: Point,
    },
    /// Tap twice.
    DoubleTap {
        /// Where.
        at: Point,
    },
    /// The back key.
    Back,
    /// The home key.
    Home,
    /// Do nothing for a while.
    Wait {
        /// How long.
        duration: Duration,
    },
    /// Hand over to the user, for a login or a captcha.
    TakeOver {
        /// Why.
        message: String,
    },
    /// Ask the user which of several options is meant.
    Interact,
    /// Remember what is on the page.
    Note {
        /// The model's argument, usually "True".
        message: String,
    },
    /// Summarise or comment on what was remembered.
    CallApi {
        /// What to do with it.
        instruction: String,
    },
    /// The task is done.
    Finish {
        /// The answer to the user.
        message: String,
    },
}

/// A reply taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What stands before the action, without its tags.
    pub thinking: String,
    /// The action.
    pub action: Action,
}

/// Why a reply is no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// Neither `do(` nor `finish(` stands in the reply.
    #[error("the reply calls neither do(…) nor finish(…)")]
    NoCall,
    /// The call's arguments are not keyword literals.
    #[error("cannot read the call's arguments at `{at}`")]
    Syntax {
        /// The text from where reading failed, at most 40 characters.
        at: String,
    },
    /// An action the agent protocol does not have.
    #[error("unknown action `{name}`")]
    Unknown {
        /// The name in the call.
        name: String,
    },
    /// An action without one of its arguments, or with one of another kind.
    #[error("action `{action}` needs {argument}")]
    Argument {
        /// The action.
        action: &'static str,
        /// What it needs.
        argument: &'static str,
    },
    /// A coordinate outside 0–999.
    #[error("coordinate {got} lies outside 0 to 999")]
    Coordinate {
        /// The coordinate, printed.
        got: String,
    },
}

impl Answer {
    /// Takes a reply apart.
    ///
    /// # Errors
    /// [`ActionError`] names what is wrong; the caller still has the text.
    ///
    /// ```
    /// use autoglm::{Action, Answer, Point};
    ///
    /// let answer = Answer::parse("<think>the camera is on top</think>\n<answer>do(action=\"Tap\", element=[120,300])")?;
    /// assert_eq!(answer.thinking, "the camera is on top");
    /// let Action::Tap { at, .. } = answer.action else { panic!() };
    /// assert_eq!(at.pixel(1080, 2400), (129, 720));
    /// # Ok::<(), autoglm::ActionError>(())
    /// ```
    pub fn parse(reply: &str) -> Result<Self, ActionError> {
        let call =
            ["finish(message=", "do(action="].iter().find_map(|start| reply.find(start)).ok_or(ActionError::NoCall)?;
        let (before, call) = reply.split_at(call);
        let mut thinking = before.trim_end().to_owned();
        for tag in ["<think>", "</think>", "<answer>"] {
            thinking = thinking.replace(tag, "");
        }
        let call = call.trim_end();
        let call = call.strip_suffix("</answer>").unwrap_or(call).trim_end();
        Ok(Self { thinking: thinking.trim().to_owned(), action: Action::parse(call)? })
    }
}

impl Action {
    fn parse(call: &str) -> Result<Self, ActionError> {
        if let Some(message) = call.strip_prefix("finish(message=") {
            return Ok(Self::Finish { message: quoted_to_the_end(message)? });
        }
        let inner = call.strip_prefix("do(").ok_or(ActionError::NoCall)?;
        if ["action=\"Type\"", "action=\"Type_Name\""].iter().any(|name| inner.starts_with(name)) {
            let text = inner.split_once("text=").ok_or(ActionError::Argument { action: "Type", argument: "text" })?.1;
            return Ok(Self::Type { text: quoted_to_the_end(text)? });
        }
        let arguments = Arguments(arguments(inner)?);
        let name = arguments.text("action").ok_or(ActionError::Argument { action: "do", argument: "action" })?;
        match name.as_str() {
            "Launch" => Ok(Self::Launch { app: arguments.required("Launch", "app")? }),
            "Tap" => Ok(Self::Tap { at: arguments.point("Tap", "element")?, message: arguments.text("message") }),
            "Swipe" => {
                Ok(Self::Swipe { start: arguments.point("Swipe", "start")?, end: arguments.point("Swipe", "end")? })
            }
            "Long Press" => Ok(Self::LongPress { at: arguments.point("Long Press", "element")? }),
            "Double Tap" => Ok(Self::DoubleTap { at: arguments.point("Double Tap", "element")? }),
            "Back" => Ok(Self::Back),
            "Home" => Ok(Self::Home),
            "Wait" => Ok(Self::Wait { duration: arguments.duration()? }),
            "Take_over" => Ok(Self::TakeOver { message: arguments.text("message").unwrap_or_default() }),
            "Interact" => Ok(Self::Interact),
            "Note" => Ok(Self::Note { message: arguments.text("message").unwrap_or_default() }),
            "Call_API" => Ok(Self::CallApi { instruction: arguments.text("instruction").unwrap_or_default() }),
            _ => Err(ActionError::Unknown { name: name.chars().take(40).collect() }),
        }
    }
}

struct Arguments(Vec<(String, Value)>);

impl Arguments {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn required(&self, action: &'static str, argument: &'static str) -> Result<String, ActionError> {
        self.text(argument).ok_or(ActionError::Argument { action, argument })
    }

    fn point(&self, action: &'static str, argument: &'static str) -> Result<Point, ActionError> {
        let Some(Value::List(numbers)) = self.get(argument) else {
            return Err(ActionError::Argument { action, argument });
        };
        let [x, y] = numbers.as_slice() else {
            return Err(ActionError::Argument { action, argument });
        };
        let on_screen = |v: f64| {
            if (0.0..1000.0).contains(&v) { Ok(v as u16) } else { Err(ActionError::Coordinate { got: v.to_string() }) }
        };
        Ok(Point { x: on_screen(*x)?, y: on_screen(*y)? })
    }

    /// "2 seconds"; one second when absent or unreadable, as the reference client has it.
    fn duration(&self) -> Result<Duration, ActionError> {
        let seconds = match self.get("duration") {
            Some(Value::Text(text)) => {
                text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(1.0)
            }
            Some(Value::Number(n)) => *n,
            _ => 1.0,
        };
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| ActionError::Argument { action: "Wait", argument: "a duration that is not negative" })
    }
}

/// The text between the opening quote and the call's closing `")`.
fn quoted_to_the_end(text: &str) -> Result<String, ActionError> {
    let unreadable = || ActionError::Syntax { at: text.chars().take(40).collect() };
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or_else(unreadable)?;
    let body = &text[1..];
    // A reply that was cut short may lack the bracket or the quote; what it said still counts.
    let body = body.strip_suffix(')').unwrap_or(body);
    Ok(body.strip_suffix(quote).unwrap_or(body).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(call: &str) -> Action {
        Answer::parse(call).unwrap().action
    }

    #[test]
    fn every_call_of_the_system_prompt_is_understood() {
        let at = Point { x: 500, y: 20 };
        let cases = [
            (r#"do(action="Launch", app="京东")"#, Action::Launch { app: "京东".into() }),
            (r#"do(action="Tap", element=[500,20])"#, Action::Tap { at, message: None }),
            (
                r#"do(action="Tap", element=[500, 20], message="重要操作")"#,
                Action::Tap { at, message: Some("重要操作".into()) },
            ),
            (r#"do(action="Type", text="hello")"#, Action::Type { text: "hello".into() }),
            (r#"do(action="Type_Name", text="张三")"#, Action::Type { text: "张三".into() }),
            (
                r#"do(action="Swipe", start=[500,800], end=[500,20])"#,
                Action::Swipe { start: Point { x: 500, y: 800 }, end: at },
            ),
            (r#"do(action="Long Press", element=[500,20])"#, Action::LongPress { at }),
            (r#"do(action="Double Tap", element=[500,20])"#, Action::DoubleTap { at }),
            (r#"do(action="Back")"#, Action::Back),
            (r#"do(action="Home")"#, Action::Home),
            (r#"do(action="Wait", duration="2 seconds")"#, Action::Wait { duration: Duration::from_secs(2) }),
            (r#"do(action="Take_over", message="登录")"#, Action::TakeOver { message: "登录".into() }),
            (r#"do(action="Interact")"#, Action::Interact),
            (r#"do(action="Note", message="True")"#, Action::Note { message: "True".into() }),
            (r#"do(action="Call_API", instruction="总结")"#, Action::CallApi { instruction: "总结".into() }),
            (r#"finish(message="done")"#, Action::Finish { message: "done".into() }),
        ];
        for (call, expected) in cases {
            assert_eq!(action(call), expected, "{call}");
            let wrapped = format!("<think>因为\n所以</think>\n<answer>{call}</answer>\n");
            assert_eq!(Answer::parse(&wrapped).unwrap(), Answer { thinking: "因为\n所以".into(), action: expected });
        }
    }

    #[test]
    fn quotes_and_brackets_inside_typed_text_stay() {
        assert_eq!(
            action(r#"do(action="Type", text="say "hi" (now)")"#),
            Action::Type { text: r#"say "hi" (now)"#.into() }
        );
        assert_eq!(action(r#"finish(message="a "b" c")"#), Action::Finish { message: r#"a "b" c"#.into() });
    }

    #[test]
    fn points_become_pixels_as_the_reference_client_computes_them() {
        assert_eq!(Point { x: 999, y: 999 }.pixel(1080, 2400), (1078, 2397));
        assert_eq!(Point { x: 0, y: 500 }.pixel(1, u32::MAX), (0, u32::MAX / 2));
    }

    #[test]
    fn what_is_no_action_says_why() {
        let cases = [
            ("I cannot do that", ActionError::NoCall),
            ("", ActionError::NoCall),
            (r#"do(action="Fly")"#, ActionError::Unknown { name: "Fly".into() }),
            (r#"do(action="Tap")"#, ActionError::Argument { action: "Tap", argument: "element" }),
            (r#"do(action="Tap", element=[1,2,3])"#, ActionError::Argument { action: "Tap", argument: "element" }),
            (r#"do(action="Tap", element=[1000,2])"#, ActionError::Coordinate { got: "1000".into() }),
            (r#"do(action="Tap", element=[-1,2])"#, ActionError::Coordinate { got: "-1".into() }),
            (
                r#"do(action="Wait", duration="-2 seconds")"#,
                ActionError::Argument { action: "Wait", argument: "a duration that is not negative" },
            ),
            (r#"do(action="Tap", element=[1"#, ActionError::Syntax { at: "[1".into() }),
            ("finish(message=5)", ActionError::Syntax { at: "5)".into() }),
        ];
        for (reply, expected) in cases {
            assert_eq!(Answer::parse(reply).unwrap_err(), expected, "{reply}");
        }
    }
}
