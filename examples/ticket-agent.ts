/**
 * An agent that answers tickets until there are none left, or until a limit says no: then it stops, hands back what it has, and says which
 * limit it was and until when.
 *
 * Run it with an API key in ANTHROPIC_API_KEY: node examples/ticket-agent.ts
 */
import Anthropic from "@anthropic-ai/sdk";
import { createPurser, LimitReachedError } from "purser";

const purser = await createPurser();
const anthropic = new Anthropic({ fetch: purser.fetch });

interface Outcome {
  answers: { ticket: string; answer: string }[];
  /** Why not all tickets are answered; `undefined`: all are. */
  stoppedBy: LimitReachedError | undefined;
}

async function answerTickets(tickets: readonly string[]): Promise<Outcome> {
  const answers: Outcome["answers"] = [];
  for (const ticket of tickets) {
    try {
      const message = await anthropic.messages.create({
        model: "claude-haiku-5-5",
        max_tokens: 300,
        messages: [{ role: "user", content: `Answer this ticket in two sentences: ${ticket}` }],
      });
      answers.push({ ticket, answer: message.content.map((block) => (block.type === "text" ? block.text : "")).join("") });
    } catch (error) {
      // Whatever is no limit's doing is no reason to call the work done.
      const stoppedBy = LimitReachedError.from(error);
      if (stoppedBy === undefined) throw error;
      return { answers, stoppedBy };
    }
  }
  return { answers, stoppedBy: undefined };
}

const tickets = [
  "I cannot log in.",
  "Where is my invoice?",
  "Please close my account.",
  "The app is slow.",
  "How do I export data?",
];
const { answers, stoppedBy } = await purser.run({ agent: "ticket-agent", session: `run-${process.pid}` }, () =>
  answerTickets(tickets),
);

console.log(`Answered ${answers.length} of ${tickets.length} tickets.`);
for (const { ticket, answer } of answers) console.log(`- ${ticket} ${answer}`);
if (stoppedBy !== undefined) {
  const until = stoppedBy.resetsAt instanceof Date ? `until ${stoppedBy.resetsAt.toISOString()}` : "for good";
  console.log(`Stopped by the limit ${stoppedBy.limit ?? stoppedBy.code}, ${until}: ${stoppedBy.message}`);
}
await purser.close();
