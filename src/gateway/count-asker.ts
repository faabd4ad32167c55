/**
 * Owns asking the upstream for a count of tokens, as the caller whose call it is. Does not own when it is asked (engine/counts.ts).
 * Invariant: no answer takes more memory than {@link COUNT_BYTES_MAX}.
 */
import type { AskCount, CountAnswer } from "../engine/counts.ts";
import { COUNT_BYTES_MAX } from "../exchange/answer.ts";
import type { Provider } from "../providers/provider.ts";
import type { Upstream } from "./upstream.ts";

/** @param call where the call itself goes, and with which headers: its credential is in them. */
export function countAsker(
  { provider, upstream }: { provider: Provider; upstream: Upstream },
  call: { path: string; headers: readonly string[] },
): AskCount {
  return (body) => {
    const path = provider.counting?.pathOf(call.path) ?? call.path;
    const sent = upstream.send({ method: "POST", path, headers: call.headers, body });
    const ask = async (): Promise<CountAnswer> => {
      const { status, body: answer } = await sent.answer;
      const chunks: Buffer[] = [];
      let length = 0;
      await answer.read((chunk) => {
        length += chunk.length;
        if (length > COUNT_BYTES_MAX) sent.abort();
        else chunks.push(chunk);
        return undefined;
      });
      return { status, body: Buffer.concat(chunks) };
    };
    return { answer: ask(), cancel: () => sent.abort() };
  };
}
