/** Owns which call a person means: by id, or by the number that `purser calls` shows. */
import type { CallRecord, Ledger } from "../ledger/ledger.ts";
import { quoteArgument } from "./arguments.ts";
import { CliError, EXIT } from "./exit.ts";

/** By id, or by the number that the list shows. */
export async function findCall(ledger: Ledger, name: string): Promise<CallRecord | undefined> {
  const number = /^#?(\d{1,15})$/.exec(name)?.[1];
  if (number === undefined) return (await ledger.calls({ limit: 1, callId: name })).at(0);
  const position = Number(number);
  const [record] = await ledger.calls({ limit: 1, before: position + 1 });
  return record?.position === position ? record : undefined;
}

/** What is said where there is no such call. */
export function unknownCall(name: string, path: string): CliError {
  return new CliError(
    EXIT.foundWrong,
    `no call ${quoteArgument(name)} in the ledger at ${path}; \`npx purser calls\` lists the newest, their numbers first`,
  );
}
