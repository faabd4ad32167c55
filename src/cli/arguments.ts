/**
 * Owns reading what people type behind options: counts, names, instants.
 * Invariant: text that is no such value is refused with what was found and what is allowed, never rounded or guessed.
 */
import { InvalidArgumentError } from "commander";
import { clean } from "./output/text.ts";

const COUNT_MAX = 1_000_000_000_000;

/** A whole number of at least `min`; `_` and `,` between digits are allowed. */
export function parseCount(min: number, max = COUNT_MAX): (text: string) => number {
  return (text) => {
    const value = /^\d+(?:[_,]?\d+)*$/.test(text) ? Number(text.replaceAll(/[_,]/g, "")) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Found ${quoteArgument(text)}; allowed: a whole number from ${min} to ${max}.`);
  };
}

/** One of several names. */
export function parseChoice<Choice extends string>(choices: readonly Choice[]): (text: string) => Choice {
  return (text) => {
    const choice = choices.find((each) => each === text);
    if (choice !== undefined) return choice;
    throw new InvalidArgumentError(`Found ${quoteArgument(text)}; allowed: ${choices.join(", ")}.`);
  };
}

/** What a person typed, safe to show. */
export function quoteArgument(text: string): string {
  return JSON.stringify(clean(text.length > 60 ? `${text.slice(0, 60)}…` : text));
}
