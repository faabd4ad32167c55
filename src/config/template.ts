/**
 * Owns the two configurations Purser brings along: what holds without a file, and what `purser init` writes.
 * Does not own their meaning: both go through the same readers as everybody's.
 */

/** What holds if nobody wrote a limit. */
export const DEFAULT_LIMITS = [
  { name: "everything-day", per: "all", usd: "50", every: "day", at: { "50%": "alert", "80%": "alert", "100%": "stop" } },
] as const;

/** The text of a first `purser.yaml`: what holds without it, and what most people want next, in comments. */
export function initTemplate(): string {
  return TEMPLATE;
}

const TEMPLATE = `# yaml-language-server: $schema=./node_modules/purser/purser.schema.json
# What agents may spend. After a change: \`purser check\` says in plain words what every limit means.

# Days, weeks and months begin at midnight here.
timezone: UTC

limits:
  # All calls together: told at half and at 80 %, stopped at $50 a day.
  - name: everything-day
    per: all
    usd: 50
    every: day # hour, day, week, month, or a length like 5h; left out: for good
    at: { 50%: alert, 80%: alert, 100%: stop }

  # One session that runs in a loop never gets far.
  - name: session-spend
    per: session
    usd: 10
    at: { 50%: alert, $8: { throttle: 2s }, 100%: stop }

  # More to choose from: take away the # and set your own amounts.

  # - name: agent-day # let running work finish, start nothing new
  #   per: agent
  #   tokens: 5_000_000
  #   every: day
  #   at: { 80%: alert, 100%: grace }

  # - name: agent-rate # a loop is fast
  #   per: agent
  #   requests: 30
  #   every: 1m

  # - name: opus-week # only some models
  #   per: project
  #   where: { model: claude-opus-* }
  #   usd: 200
  #   every: week

# What a limit with the action \`downgrade\` changes a model to.
# models:
#   downgrade:
#     claude-opus-5-5: claude-haiku-5-5

# Your own prices, in US dollars per million tokens.
# prices:
#   my-fine-tune:
#     inputUsdPerMTok: 3
#     outputUsdPerMTok: 15
#     cacheReadUsdPerMTok: 0.30

# If the ledger cannot be written, and if a model has no price: refuse (deny), which is what holds if this is left out.
# onLedgerUnavailable: deny
# onUnpricedModel: deny

# Calls older than so many days go to a file beside the ledger; their totals and reports stay. Left out, all of them stay.
# ledger:
#   keepDays: 400
`;
