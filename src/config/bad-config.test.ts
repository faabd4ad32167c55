import { expect, test } from "vitest";
import { readConfig } from "./config.ts";

/**
 * Goal: every kind of mistake is told at its exact place. Method: `▸` marks the place in the text and is taken out before reading; the
 * one problem that is expected must stand there, and its line must be the readable one people get.
 */
function readMarked(marked: string): { message: string; place: string; expected: string; count: number } {
  const offset = marked.indexOf("▸");
  const before = marked.slice(0, offset);
  const expected = `${before.split("\n").length}:${offset - before.lastIndexOf("\n")}`;
  const result = readConfig({ text: marked.replace("▸", ""), fileName: "purser.yaml", env: {} });
  if (result.outcome === "read") return { message: "(accepted)", place: "", expected, count: 0 };
  const [problem] = result.problems;
  return {
    message: problem?.message ?? "",
    place: `${problem?.line}:${problem?.column}`,
    expected,
    count: result.problems.length,
  };
}

/** A file with one limit, most of it right. */
function limit(lines: string): string {
  return `limits:\n  - name: a\n${lines
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n")}\n`;
}

const DOWNGRADE = "models: { downgrade: { big: small } }\n";

const CASES: readonly (readonly [name: string, marked: string, told: string])[] = [
  // The document.
  ["a broken flow list", "timezone: UTC\nlimits: [1\n▸server: {}\n", "found broken YAML"],
  ["a second document", "timezone: UTC\n▸---\ntimezone: UTC\n", "one document"],
  ["a tag", "timezone: ▸!zone UTC\n", "Unresolved tag: !zone"],
  ["a list instead of settings", "▸- a\n", "found a list; allowed: a mapping with timezone, weekStart, limits"],
  ["a text instead of settings", "▸hello\n", 'found "hello"; allowed: a mapping'],
  ["a key that is a list", "? ▸[a]\n: 3\n", "found a key that is no plain text"],
  ["a merge key", "▸<<: { timezone: UTC }\n", 'found the unknown key "<<"'],
  ["an alias of nothing", "timezone: ▸*zone\n", 'found the alias "*zone"'],
  ["an unknown setting", "▸timezne: UTC\n", 'found the unknown key "timezne"; allowed: timezone, weekStart,'],
  [
    "a setting twice",
    "timezone: UTC\nweekStart: monday\n▸timezone: UTC\n",
    'timezone: found the key "timezone" a second time; allowed: each key once; the first is on line 1',
  ],
  // Settings.
  ["an unknown time zone", "timezone: ▸Europe/Berln\n", '(did you mean "Europe/Berlin"?)'],
  ["an offset as time zone", "timezone: ▸+02:00\n", 'found "+02:00"; allowed: an IANA time zone'],
  ["no time zone", "timezone:▸\n", "found nothing; allowed: an IANA time zone"],
  ["an unknown day", "weekStart: ▸mon\n", 'found "mon"; allowed: monday, tuesday'],
  ["an unknown choice", "onUnpricedModel: ▸allow\n", 'onUnpricedModel: found "allow"; allowed: deny, dearest'],
  ["a choice that is a list", "onClientAbort: ▸[drain]\n", "found a list; allowed: cancel, drain"],
  ["a boolean as choice", "onLedgerUnavailable: ▸true\n", 'found "true"; allowed: deny, allow'],
  ["an upstream that is no address", "upstreams: { anthropic: ▸api.anthropic.com }\n", "allowed: an http or https address"],
  ["an upstream of another kind", "upstreams: { anthropic: ▸ftp://x }\n", 'found "ftp://x"'],
  ["an upstream with a query", "upstreams: { openai: ▸'https://x/?key=geheim' }\n", 'found "https://x/?…"'],
  ["an upstream with a fragment", "upstreams: { openai: ▸'https://x/#a' }\n", "without user, query or fragment"],
  ["an upstream with /v1", "upstreams: { openai: ▸https://x/v1/ }\n", "allowed: the address without /v1"],
  [
    "Purser itself as upstream",
    "upstreams: { anthropic: ▸http://localhost:4141 }\n",
    "allowed: the provider's address, not Purser's own",
  ],
  [
    "an unknown upstream",
    "upstreams: { ▸gemini: https://x }\n",
    'upstreams.gemini: found the unknown key "gemini"; allowed: anthropic, openai',
  ],
  ["a port out of range", "server:\n  port: ▸65536\n", 'server.port: found "65536"; allowed: a whole number from 0 to 65_535'],
  ["a port that is no number", "server: { adminPort: ▸0x10 }\n", 'server.adminPort: found "0x10"'],
  ["one port twice", "server: { port: 5000, adminPort: ▸5000 }\n", "found port 5000 twice"],
  ["a host with a port", "server: { host: ▸'127.0.0.1:80' }\n", "allowed: a host name or address alone"],
  ["a body size of nothing", "server: { bodyBytesMax: ▸12 }\n", "from 1_024 to 1_073_741_824"],
  ["settings of the server that are a text", "server: ▸4141\n", 'server: found "4141"; allowed: a mapping with host, port'],
  ["a misspelt setting of the server", "server: { ▸prot: 1 }\n", '(did you mean "port"?)'],
  // Models.
  [
    "a model that replaces itself",
    "models: { downgrade: { a: ▸a } }\n",
    'models.downgrade.a: found "a"; allowed: a model that does not lead back to "a"',
  ],
  ["an empty downgrade", "models: { downgrade: ▸{} }\n", "found an empty mapping"],
  ["a downgrade to a list", "models: { downgrade: { a: ▸[b] } }\n", "found a list; allowed: the name of a model"],
  // Prices.
  [
    "a price with an exponent",
    "prices:\n  m: { inputUsdPerMTok: ▸3e-6, outputUsdPerMTok: 15 }\n",
    'prices.m.inputUsdPerMTok: found "3e-6"; allowed: US dollars',
  ],
  [
    "a price beyond a nano-dollar",
    "prices: { m: { inputUsdPerMTok: ▸3.0000000001, outputUsdPerMTok: 15 } }\n",
    "up to 9 decimals",
  ],
  [
    "a price per token",
    "prices:\n  m:\n    inputUsdPerMTok: ▸0.000003\n    outputUsdPerMTok: 15\n",
    "If $0.000003 is the price of one token, write 3;",
  ],
  [
    "a price a million times too high",
    "prices: { m: { inputUsdPerMTok: 3, outputUsdPerMTok: ▸15_000_000 } }\n",
    "outputUsdPerMTok of m: found $15000000 per million tokens",
  ],
  [
    "no input price",
    "prices: { m: ▸{ outputUsdPerMTok: 15 } }\n",
    "prices.m.inputUsdPerMTok: found nothing; allowed: US dollars per million tokens",
  ],
  ["no output price", "prices: { m: ▸{ inputUsdPerMTok: 15 } }\n", "prices.m.outputUsdPerMTok: found nothing"],
  ["prices that are all zero", "prices: { m: ▸{ inputUsdPerMTok: 0, outputUsdPerMTok: 0.00 } }\n", "allowed: free: true"],
  [
    "a free model with a price",
    "prices: { m: { free: true, ▸inputUsdPerMTok: 3 } }\n",
    'found "inputUsdPerMTok" beside free: true',
  ],
  ["free that is no boolean", "prices: { m: { free: ▸yes } }\n", 'found "yes"; allowed: true, false'],
  [
    "a day that does not exist",
    "prices: { m: { free: true, from: ▸2026-02-30 } }\n",
    'found "2026-02-30"; allowed: a day like 2026-11-01',
  ],
  ["an instant without zone", "prices: { m: { free: true, from: ▸2026-02-20T10:00 } }\n", "allowed: a day like"],
  ["a price of an unknown provider", "prices: { m: { provider: ▸opanai, free: true } }\n", '(did you mean "openai"?)'],
  ["a price of a pattern", "prices: { ▸claude-*: { free: true } }\n", "allowed: the full name of one model"],
  ["a price by unit beyond a nano-dollar", "prices: { search: { usdPerUnit: ▸0.0000000001 } }\n", "up to 9 decimals"],
  ["a price by unit and one by token", "prices: { search: { usdPerUnit: 1, ▸inputUsdPerMTok: 3 } }\n", "beside usdPerUnit"],
  ["a price by unit of a provider's", "prices: { search: { ▸provider: openai, usdPerUnit: 1 } }\n", "beside usdPerUnit"],
  ["a price by unit under a provider's name", "prices: { ▸openai: { usdPerUnit: 1 } }\n", "allowed: another name"],
  ["prices that are a list", "prices: ▸[a]\n", "found a list; allowed: models and their prices"],
  // Limits.
  ["limits that are a mapping", "limits: ▸{ a: 1 }\n", "limits: found a mapping; allowed: a list of limits"],
  ["no limits", "limits:▸\n", "limits: found nothing; allowed: a list of limits"],
  ["a limit that is a text", "limits:\n  - ▸a\n", 'limits[0]: found "a"; allowed: a mapping with name, per'],
  ["a limit without a name", "limits:\n  - ▸per: all\n    usd: 5\n", "limits[0].name: found nothing; allowed: a name of"],
  ["a name with a space", "limits: [{ name: ▸a b, per: all, usd: 5 }]\n", 'limits[0].name: found "a b"'],
  ["a name in capitals", "limits: [{ name: ▸Day, per: all, usd: 5 }]\n", 'found "Day"'],
  ["a name that is too long", `limits: [{ name: ▸${"a".repeat(64)}, per: all, usd: 5 }]\n`, "at most 63 long"],
  [
    "a name twice",
    "limits:\n  - { name: a, per: all, usd: 5 }\n  - { name: ▸a, per: all, usd: 6 }\n",
    'limits[1].name: found the name "a" a second time; allowed: each name once; the first is on line 2',
  ],
  [
    "a limit without a scope",
    "limits:\n  - ▸name: a\n    usd: 5\n",
    "limits[0].per: found nothing; allowed: all, project, agent",
  ],
  ["a misspelt scope", limit("per: ▸agnet\nusd: 5"), '(did you mean "agent"?) or tag:NAME'],
  ["a scope twice", limit("per: [agent, ▸agent]\nusd: 5"), 'limits[0].per[1]: found "agent"; allowed: each scope once'],
  ["all beside others", limit("per: ▸[all, agent]\nusd: 5"), "found all beside others"],
  ["no scope in a list", limit("per: ▸[]\nusd: 5"), "found an empty list"],
  ["a tag without a name", limit('per: ▸"tag:"\nusd: 5'), "allowed: tag:NAME"],
  ["money per tool", limit("▸per: [agent, tool]\nusd: 5"), "allowed: tool on a limit of toolCalls"],
  ["money of one tool", limit("per: all\n▸tool: search\nusd: 5"), "allowed: tool on a limit of toolCalls"],
  ["money where there is a tool", limit("per: all\n▸where: { tool: x }\nusd: 5"), "allowed: tool on a limit of toolCalls"],
  ["tool calls per model", limit("▸per: model\ntoolCalls: 5"), "allowed: toolCalls without model"],
  ["a tool twice", limit("per: all\ntool: a\nwhere: { ▸tool: b }\ntoolCalls: 5"), "allowed: tool once"],
  ["a tool with * inside", limit("per: all\ntool: ▸a*b\ntoolCalls: 5"), "only at the end"],
  [
    "a downgrade for tool calls",
    `models: { downgrade: { a: b } }\n${limit("per: all\ntoolCalls: 5\nat: { 50%: ▸downgrade }")}`,
    "a tool runs on no model",
  ],
  [
    "the measure sessions",
    limit("per: all\n▸sessions: 5"),
    'found "sessions"; allowed: usd, tokens, inputTokens, outputTokens, requests, concurrency, toolCalls ("sessions" is not enforced yet',
  ],
  ["no measure", "limits:\n  - ▸name: a\n    per: all\n", "found no measure; allowed: exactly one of usd, tokens"],
  [
    "two measures",
    limit("per: all\nusd: 5\n▸tokens: 5"),
    'limits[0].tokens: found a second measure "tokens"; allowed: one measure per limit; "usd" is on line 4',
  ],
  ["a misspelt key", limit("per: all\nusd: 5\n▸evry: day"), '(did you mean "every"?)'],
  ["a negative amount", limit("per: all\nusd: ▸-5"), 'limits[0].usd: found "-5"'],
  ["an amount with a dollar sign", limit("per: all\nusd: ▸$5"), "allowed: US dollars as a plain number"],
  ["an amount that is no number", limit("per: all\nusd: ▸.inf"), 'found ".inf"'],
  ["an amount with a comma", limit("per: all\nusd: ▸1,000"), 'found "1,000"'],
  ["an amount beyond everything", limit("per: all\nusd: ▸1_000_000_000.01"), "at most 1_000_000_000"],
  ["half a token", limit("per: all\ntokens: ▸10.5"), 'limits[0].tokens: found "10.5"; allowed: a whole number'],
  ["a number that ends in _", limit("per: all\ntokens: ▸100_"), 'found "100_"'],
  [
    "an unknown window",
    limit("per: all\nusd: 5\nevery: ▸fortnight"),
    'limits[0].every: found "fortnight"; allowed: hour, day, week, month or a length like 5h',
  ],
  ["a length without a unit", limit("per: all\nusd: 5\nevery: ▸60"), 'found "60"'],
  ["a length of nothing", limit("per: all\nusd: 5\nevery: ▸0s"), 'found "0s"'],
  ["a length under a second", limit("per: all\nusd: 5\nevery: ▸999ms"), "(1s to 366d)"],
  ["a length over a year", limit("per: all\nusd: 5\nevery: ▸367d"), "(1s to 366d)"],
  ["a window for concurrency", limit("per: all\nconcurrency: 5\n▸every: day"), "allowed: concurrency without `every`"],
  [
    "a zone for a rolling window",
    limit("per: all\nusd: 5\nevery: 5h\n▸timezone: UTC"),
    "allowed: timezone with every: hour, day, week or month",
  ],
  ["a week's start for days", limit("per: all\nusd: 5\nevery: day\n▸weekStart: sunday"), "allowed: weekStart with every: week"],
  ["a month's day for a lifetime", limit("per: all\nusd: 5\n▸monthDay: 3"), "allowed: monthDay with every: month"],
  ["the 29th of a month", limit("per: all\nusd: 5\nevery: month\nmonthDay: ▸29"), "a whole number from 1 to 28"],
  ["a limit's own unknown zone", limit("per: all\nusd: 5\nevery: day\ntimezone: ▸Mars/Olympus"), "allowed: an IANA time zone"],
  ["cacheReads of money", limit("per: all\nusd: 5\n▸cacheReads: ignore"), "cacheReads on a limit of tokens or inputTokens"],
  ["an unknown cacheReads", limit("per: all\ntokens: 5\ncacheReads: ▸skip"), 'found "skip"; allowed: count, ignore'],
  [
    "fit on what max_tokens does not bound",
    limit("per: all\ninputTokens: 5\n▸fit: off"),
    'found "fit"; allowed: fit on a limit of usd',
  ],
  ["unbounded without an amount", limit("per: all\nusd: 5\nunbounded: ▸{}"), "limits[0].unbounded.reserve: found nothing"],
  ["unbounded above the limit", limit("per: all\nusd: 5\nunbounded: { reserve: ▸5.01 }"), "at most what the limit stops at ($5)"],
  ["unbounded of nothing", limit("per: all\nusd: 5\nunbounded: { reserve: ▸0 }"), "allowed: more than 0"],
  ["unbounded of tokens", limit("per: all\ntokens: 5\n▸unbounded: { reserve: 1 }"), "unbounded on a usd limit that stops"],
  ["where without a scope", limit("per: all\nusd: 5\nwhere: ▸{}"), "found an empty mapping"],
  ["where all", limit("per: all\nusd: 5\nwhere: { ▸all: x }"), "a scope that has values"],
  ["where with an unknown scope", limit("per: all\nusd: 5\nwhere: { ▸modle: x }"), '(did you mean "model"?)'],
  [
    "where without a value",
    limit("per: all\nusd: 5\nwhere: { model: ▸}"),
    "limits[0].where.model: found nothing; allowed: a value",
  ],
  [
    "a star in the middle",
    limit("per: all\nusd: 5\nwhere: { model: [a, ▸cl*de] }"),
    'limits[0].where.model[1]: found "cl*de"; allowed: a value, or a list of values; `*` only at the end',
  ],
  // Thresholds and actions.
  ["at as a text", limit("per: all\nusd: 5\nat: ▸stop"), 'found "stop"; allowed: thresholds and what happens there'],
  ["at without a threshold", limit("per: all\nusd: 5\nat: ▸{}"), "found an empty mapping"],
  [
    "a share of nothing",
    limit("per: all\nusd: 5\nat: { ▸0%: alert }"),
    'limits[0].at.0%: found "0%"; allowed: a share above 0% and up to 1000%',
  ],
  ["a share beyond ten times", limit("per: all\nusd: 5\nat: { ▸1001%: alert }"), "up to 1000%"],
  [
    "a share with three decimals",
    limit("per: all\nusd: 5\nat: { ▸33.333%: alert }"),
    "allowed: a share like 80%, or an amount like $5",
  ],
  ["a bare number for money", limit("per: all\nusd: 5\nat: { ▸4: alert }"), "an amount like $5"],
  ["dollars for tokens", limit("per: all\ntokens: 500\nat: { ▸$4: alert }"), "a whole number like 400_000"],
  ["dollars of nothing", limit("per: all\nusd: 5\nat: { ▸$0: alert }"), "above 0"],
  ["a threshold twice", limit("per: all\nusd: 5\nat: { 80%: alert, ▸80%: stop }"), 'found the key "80%" a second time'],
  [
    "an amount twice",
    limit("per: all\nusd: 5\nat:\n  $4: alert\n  ▸80%: stop"),
    'limits[0].at.80%: found "80%"; allowed: each amount once: "$4" is the same amount',
  ],
  ["no action", limit("per: all\nusd: 5\nat: { 80%: ▸}"), "found nothing; allowed: alert, downgrade"],
  ["an empty list of actions", limit("per: all\nusd: 5\nat: { 80%: ▸[] }"), "found an empty list"],
  ["a misspelt action", limit("per: all\nusd: 5\nat: { 80%: ▸alret }"), '(did you mean "alert"?)'],
  ["the action ask", limit("per: all\nusd: 5\nat: { 80%: ▸ask }"), '("ask" is not enforced yet, so it is refused)'],
  ["a pause without a length", limit("per: all\nusd: 5\nevery: day\nat: { 80%: ▸pause }"), "like { pause: { upTo: 15m } }"],
  ["a pause of nothing", limit("per: all\nusd: 5\nevery: day\nat: { 80%: { pause: ▸{} } }"), "upTo: LENGTH"],
  [
    "a pause of a day",
    limit("per: all\nusd: 5\nevery: day\nat: { 80%: { pause: { upTo: ▸1d } } }"),
    'limits[0].at.80%.pause.upTo: found "1d"; allowed: a length from 1s to 1h',
  ],
  ["a pause of a lifetime", limit("per: session\nusd: 5\nat: { 80%: ▸{ pause: { upTo: 15m } } }"), "allowed: pause with `every`"],
  [
    "a throttle beside a pause",
    limit("per: all\nusd: 5\nevery: day\nat: { 80%: [{ pause: { upTo: 15m } }, ▸{ throttle: 2s }] }"),
    "beside pause, throttle could never happen",
  ],
  [
    "a stop above a pause",
    limit("per: all\nusd: 5\nevery: day\nat: { 80%: { pause: { upTo: 15m } }, ▸100%: stop }"),
    "refuses there",
  ],
  ["a throttle without a length", limit("per: all\nusd: 5\nat: { 80%: ▸throttle }"), "like { throttle: 2s }"],
  [
    "a throttle of nothing",
    limit("per: all\nusd: 5\nat: { 80%: { throttle: ▸0s } }"),
    'limits[0].at.80%.throttle: found "0s"; allowed: a length from 1ms to 10m',
  ],
  ["a throttle of an hour", limit("per: all\nusd: 5\nat: { 80%: { throttle: ▸1h } }"), "from 1ms to 10m"],
  [
    "an action with two names",
    limit("per: all\nusd: 5\nat: { 80%: ▸{ throttle: 2s, grace: {} } }"),
    "found a mapping; allowed: alert",
  ],
  [
    "grace with an unknown option",
    limit("per: all\nusd: 5\nevery: day\nat: { 100%: { grace: { ▸call: 3 } } }"),
    '(did you mean "calls"?)',
  ],
  [
    "grace with too much overdraft",
    limit("per: all\nusd: 5\nevery: day\nat: { 100%: { grace: { overdraft: ▸101% } } }"),
    "from 0% to 100%",
  ],
  ["grace without calls", limit("per: all\nusd: 5\nevery: day\nat: { 100%: { grace: { calls: ▸0 } } }"), "from 1 to 1_000"],
  ["grace of a lifetime", limit("per: session\nusd: 5\nat: { 100%: ▸grace }"), "allowed: grace with `every`"],
  [
    "downgrade without models",
    limit("per: all\nusd: 5\nat: { 50%: ▸downgrade, 100%: stop }"),
    "allowed: downgrade with `models:",
  ],
  [
    "an action twice",
    limit("per: all\nusd: 5\nat: { 80%: [alert, ▸alert] }"),
    'limits[0].at.80%[1]: found "alert"; allowed: each action once at a threshold',
  ],
  [
    "stop beside throttle",
    limit("per: all\nusd: 5\nat: { 80%: [{ throttle: 2s }, ▸stop] }"),
    "beside stop, throttle could never happen",
  ],
  [
    "stop beside grace",
    limit("per: all\nusd: 5\nevery: day\nat: { 80%: [stop, ▸grace] }"),
    "beside stop, grace could never happen",
  ],
  ["two stops", limit("per: all\nusd: 5\nat: { 80%: stop, ▸100%: stop }"), 'found "100%"; allowed: thresholds up to "80%"'],
  [
    "an alert above the stop",
    limit("per: all\nusd: 5\nat:\n  ▸120%: alert\n  100%: stop"),
    'limits[0].at.120%: found "120%"; allowed: thresholds up to "100%": the limit refuses there',
  ],
  [
    "two downgrades",
    DOWNGRADE + limit("per: all\nusd: 5\nat: { 50%: downgrade, ▸70%: downgrade, 100%: stop }"),
    "downgrade at one threshold",
  ],
  [
    "a throttle that does not grow",
    limit("per: all\nusd: 5\nat: { 50%: { throttle: 2s }, ▸70%: { throttle: 2s } }"),
    "a longer throttle than at the threshold before it (2000 ms)",
  ],
  [
    "throttle of concurrency",
    limit("per: all\nconcurrency: 5\nat: { 100%: { ▸throttle: 2s } }").replace("{ ▸throttle", "▸{ throttle"),
    'found "throttle"; allowed: stop (calls in flight',
  ],
  ["an alert of concurrency", limit("per: all\nconcurrency: 5\nat: { 80%: ▸alert }"), 'found "alert"; allowed: stop'],
  // The short form.
  ["an empty budget", "budget: ▸{}\n", "found a budget without an amount; allowed: at least one of per_session_tokens"],
  [
    "an unknown part of a budget",
    "budget: { daily_tokens: 5, ▸weekly_usd: 5 }\n",
    'budget.weekly_usd: found the unknown key "weekly_usd"',
  ],
  ["a budget's amount that is no number", "budget: { daily_tokens: ▸many }\n", 'budget.daily_tokens: found "many"'],
  [
    "a budget's part without an amount",
    "budget: { daily_tokens: ▸{ at: { 50%: stop } } }\n",
    "budget.daily_tokens.amount: found nothing",
  ],
  [
    "a budget's share above all",
    "budget: { daily_tokens: 5, alert_thresholds: [50%, ▸120%] }\n",
    "allowed: shares above 0% and up to 100%",
  ],
  [
    "a budget's share as fraction",
    "budget: { daily_tokens: 5, alert_thresholds: [▸0.5] }\n",
    'budget.alert_thresholds[0]: found "0.5"',
  ],
  ["a budget's share twice", "budget: { daily_tokens: 5, alert_thresholds: [50%, ▸50.0%] }\n", "each once"],
  [
    "a budget that stops and graces",
    "budget: { daily_tokens: { amount: 5, at: { 100%: [stop, ▸grace] } } }\n",
    "beside stop, grace",
  ],
  [
    "a limit with a budget's name",
    "limits: [{ name: budget-session, per: all, usd: 5 }]\nbudget: { ▸per_session_tokens: 5 }\n",
    'found the name "budget-session" a second time',
  ],
];

test.each(CASES)("tells the place of %s", (_name, marked, told) => {
  const { message, place, expected, count } = readMarked(marked);

  expect(message).toContain(told);
  expect(message).toMatch(/^purser\.yaml:\d+:\d+: .+/);
  expect(place).toBe(expected);
  expect(count).toBe(1);
});

test("never shows the password of an address", () => {
  const text = "upstreams:\n  anthropic: https://me:geheim@example.com\n  openai: //me:geheim@example.com\n";
  const result = readConfig({ text, fileName: "purser.yaml", env: { PURSER_LEDGER: "postgres://me:geheim@host/db" } });

  expect(result.outcome).toBe("invalid");
  expect(JSON.stringify(result)).not.toContain("geheim");
});

test("tells all mistakes at once, in the order of the file", () => {
  const text = "timezone: Mars\nlimits:\n  - { name: A, per: alle, usd: x }\nserver: { port: y }\n";
  const result = readConfig({ text, fileName: "purser.yaml", env: {} });

  expect(result.outcome === "invalid" && result.problems.map(({ line, path }) => `${line} ${path}`)).toEqual([
    "1 timezone",
    "3 limits[0].name",
    "3 limits[0].per",
    "3 limits[0].usd",
    "4 server.port",
  ]);
});

test("a cycle of replaced models is told at each of its models", () => {
  const text = "models: { downgrade: { a: b, b: c, c: a, d: a } }\n";
  const result = readConfig({ text, fileName: "purser.yaml", env: {} });

  expect(result.outcome === "invalid" && result.problems.map(({ path }) => path)).toEqual([
    "models.downgrade.a",
    "models.downgrade.b",
    "models.downgrade.c",
  ]);
});

test.each([
  ["aliases that multiply", `a: &a [x, x, x, x, x, x, x, x, x]\n${nested(8)}`],
  ["an alias of itself", "limits: &a [*a]\n"],
  ["nesting without end", `limits: ${"[".repeat(20_000)}`],
  ["a map of 30,000 keys", `limits: {${Array.from({ length: 30_000 }, (_, index) => `k${index}: 1`).join(",")}}`],
  ["a file over the size", `# ${"x".repeat(600_000)}`],
])("ends with a problem, in bounded time, on %s", (_name, text) => {
  expect(readConfig({ text, fileName: "purser.yaml", env: {} }).outcome).toBe("invalid");
});

function nested(levels: number): string {
  const names = "abcdefghij";
  return Array.from({ length: levels }, (_, index) => {
    const list = Array.from({ length: 9 }, () => `*${names[index]}`).join(", ");
    return `${names[index + 1]}: &${names[index + 1]} [${list}]\n`;
  }).join("");
}
