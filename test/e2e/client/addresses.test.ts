/**
 * Goal: nobody gets past the limits by writing a provider's address in another way, and addresses that several providers share are told
 * apart. Method: what is sent goes to simulators, whatever its host, so that the providers' own hosts can be called.
 */
import { expect, it, onTestFinished } from "vitest";
import { createPurser } from "../../../src/client/entry.ts";
import { createMemoryLedger } from "../../../src/ledger/memory/memory-ledger.ts";
import { startOpenAiSimulator, startSimulator } from "../../../src/testing/testing.ts";
import { messageInit } from "./harness.ts";

const CHAT = { model: "gpt-6.2-sol", max_completion_tokens: 64, messages: [{ role: "user", content: "hi" }] };

/** A Purser on these addresses; each request that it sends reaches one simulator, by its path. */
async function startAt(upstreams: { anthropic?: string; openai?: string }) {
  const anthropic = await startSimulator();
  const openai = await startOpenAiSimulator();
  const ledger = createMemoryLedger();
  const sent: string[] = [];
  const send: typeof fetch = (input, init) => {
    const { href, pathname } = new URL(input as string);
    sent.push(href);
    const path = /\/v1\/.*/.exec(pathname)?.[0] ?? "/v1/models";
    return fetch((path.startsWith("/v1/messages") ? anthropic.url : openai.url) + path, init);
  };
  const limits = [{ name: "roomy", per: "all" as const, usd: 1_000, every: "day" as const }];
  const purser = await createPurser({ config: { limits, upstreams }, ledger, fetch: send });
  onTestFinished(async () => {
    await purser.close();
    await Promise.all([anthropic.close(), openai.close()]);
  });
  /** Whose call it was and its status, or what it was refused for, or that nobody counted it. */
  const ask = async (url: string, init: RequestInit): Promise<string> => {
    const response = await purser.fetch(url, init);
    const answer = (await response.json().catch(() => ({}))) as { error?: { details?: { code?: string } } };
    const code = answer.error?.details?.code;
    if (code !== undefined) return code;
    if (!response.headers.has("x-purser-call")) return "untouched";
    const [call] = await ledger.calls({ limit: 1 });
    return `${call?.facts?.provider} ${call?.status}`;
  };
  return { ask, sent };
}

const message = (): RequestInit => messageInit();
const chat = (): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json", authorization: "Bearer k" },
  body: JSON.stringify(CHAT),
});

it("meters the providers' own hosts, whatever is configured", async () => {
  const { ask } = await startAt({ anthropic: "http://127.0.0.1:9", openai: "https://proxy.example/openai" });

  for (const host of ["https://api.anthropic.com", "http://api.anthropic.com", "https://API.anthropic.com.:443"])
    expect([host, await ask(`${host}/v1/messages`, message())]).toEqual([host, "anthropic settled"]);
  for (const host of ["https://api.openai.com", "http://api.openai.com"])
    expect([host, await ask(`${host}/v1/chat/completions`, chat())]).toEqual([host, "openai settled"]);
});

it("refuses what it does not know on a provider's own host, even below a configured path", async () => {
  const { ask, sent } = await startAt({ anthropic: "https://api.anthropic.com/eu" });

  expect(await ask("https://api.anthropic.com/us/v1/messages", message())).toBe("unknown_path");
  expect(await ask("https://api.anthropic.com//v1/messages", message())).toBe("unknown_path");
  expect(await ask("http://api.anthropic.com/v1/%6dessages", message())).toBe("unknown_path");
  expect(sent).toEqual([]);
});

it("knows this machine by all its names, with the same port", async () => {
  const { ask } = await startAt({ anthropic: "http://127.0.0.1:9999" });

  for (const host of ["127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "[0:0::1]", "127.1", "[::ffff:127.0.0.1]"])
    expect([host, await ask(`http://${host}:9999/v1/messages`, message())]).toEqual([host, "anthropic settled"]);
  expect(await ask("http://localhost:9998/v1/messages", message())).toBe("untouched");
});

it("knows a path before the provider's own however it is written, and leaves other paths of that host alone", async () => {
  const { ask } = await startAt({ anthropic: "https://proxy.example/team-a/claude" });

  for (const path of ["/team-a/claude", "//team-a/claude", "/team-a//claude", "/te%61m%2da/%63laude"])
    expect([path, await ask(`https://proxy.example${path}/v1/messages`, message())]).toEqual([path, "anthropic settled"]);
  expect(await ask("https://proxy.example/team-a/claude/v1//messages", message())).toBe("unknown_path");
  expect(await ask("https://proxy.example/team-a/claude/v1/%6dessages", message())).toBe("unknown_path");
  expect(await ask("https://proxy.example/team-a/claude-2/v1/messages", message())).toBe("untouched");
  expect(await ask("https://proxy.example/team%2Fa/claude/v1/messages", message())).toBe("untouched");
});

it("takes the longer of two addresses that lie inside each other", async () => {
  for (const [anthropic, openai] of [
    ["https://proxy.example", "https://proxy.example/openai"],
    ["https://proxy.example/claude", "https://proxy.example"],
  ] as const) {
    const { ask, sent } = await startAt({ anthropic, openai });

    expect(await ask(`${anthropic}/v1/messages`, message())).toBe("anthropic settled");
    expect(await ask(`${openai}/v1/chat/completions`, chat())).toBe("openai settled");
    expect(sent).toEqual([`${anthropic}/v1/messages`, `${openai}/v1/chat/completions`]);
  }
});

it("tells two providers at one address apart by what is asked, as the gateway does", async () => {
  const { ask } = await startAt({ anthropic: "https://proxy.example/llm", openai: "https://proxy.example/llm/" });
  const base = "https://proxy.example/llm";

  expect(await ask(`${base}/v1/messages`, message())).toBe("anthropic settled");
  expect(await ask(`${base}/v1/chat/completions`, chat())).toBe("openai settled");
  expect(await ask(`${base}/v1/images/generations`, chat())).toBe("not_metered");
  expect(await ask(`${base}/v1/models`, {})).toBe("ambiguous_path");
  expect(await ask(`${base}/v1/models`, { headers: { authorization: "Bearer k" } })).toBe("untouched");
});
