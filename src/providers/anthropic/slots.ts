/**
 * Owns where in a Messages request each deciding value stands: the keys that are read, at the depth where they are read.
 * Does not own what they mean (reading.ts).
 * Invariant: tool inputs, schemas and every key not listed here are the caller's own: neither read nor compared.
 *
 * @see providers.md §3; `MessageCreateParams` (beta) in @anthropic-ai/sdk 1.8.0
 */
import { ANY_KIND, JSON_KIND, JsonMembers, slotFor, type JsonKind, type JsonSlot, type JsonValueSpan } from "../json/slot.ts";
import type { RequestReading } from "./reading.ts";

type Slot = JsonSlot<RequestReading>;
const slot = slotFor<RequestReading>();
type Read = (state: RequestReading, value: JsonValueSpan) => string | undefined | void;

const { object, array, string, number, boolean, null: nothing } = JSON_KIND;

/** A name in a string, or null for "as if it were not there". */
function name(key: string, read: Read): Slot {
  return slot(key, string | nothing, "a string", { read });
}

const CACHE_CONTROL = slot("cache_control", object | nothing, "an object or null", {
  members: [name("type", () => undefined), name("ttl", (state, value) => state.readTtl(value))],
  open: (state) => state.openCacheControl(),
  read: (state, value) => state.readCacheControl(value),
});

function tool(key: string): Slot {
  return slot(key, object, "an object", {
    members: [
      name("type", (state, value) => state.readToolType(value)),
      slot("max_uses", number | nothing, "a whole number from 0, or null", { read: (state, value) => state.readUsesMax(value) }),
      CACHE_CONTROL,
    ],
    open: (state) => state.openTool(),
    read: (state) => state.readTool(),
  });
}

/** A tool defined in the middle of a conversation: a `tool_addition` block, or the changes that a compaction block reports. */
const TOOL_CHANGE = slot("tool", ANY_KIND, "an object", { members: [tool("definition")] });
const TOOL_CHANGES = slot("tool_changes", ANY_KIND, "an array", {
  element: slot("tool_changes", ANY_KIND, "an object", { members: [tool("definition"), TOOL_CHANGE] }),
});

/** Text, a list of content blocks, or one content block: they nest in tool results, documents and search results. */
const CONTENT: Slot = contentSlot();

function contentSlot(): Slot {
  const members: Slot[] = [];
  const content: { -readonly [Key in keyof Slot]: Slot[Key] } = {
    name: "content",
    kinds: ANY_KIND,
    allowed: "a string or an array of content blocks",
    open: (state, kind) => {
      if (kind === object) state.openBlock();
    },
    read: (state, { kind }) => {
      if (kind === object) state.readBlock();
      return undefined;
    },
  };
  members.push(
    name("type", (state, value) => state.readBlockType(value)),
    content,
    slot("source", ANY_KIND, "an object", {
      members: [
        name("type", (state, value) => state.readSourceType(value)),
        slot("data", ANY_KIND, "a string", { read: (state, value) => state.readSourceData(value) }),
        content,
      ],
      open: (state) => state.openSource(),
    }),
    CACHE_CONTROL,
    TOOL_CHANGE,
    TOOL_CHANGES,
  );
  content.members = new JsonMembers(members);
  content.element = content;
  return content;
}

const MESSAGE = slot("messages", object, "an object", {
  members: [slot("role", string, "a string", { read: (state, value) => state.readRole(value) }), CONTENT],
  open: (state) => state.openMessage(),
  read: (state, value) => state.readMessage(value),
});

const THINKING = slot("thinking", object | nothing, "an object", {
  members: [
    slot("type", string, "a string", { read: (state, value) => state.readThinkingType(value) }),
    slot("budget_tokens", number | nothing, "a whole number from 0", { read: (state, value) => state.readBudgetTokens(value) }),
  ],
  read: (state, value) => state.readThinking(value),
});

const CONTEXT_MANAGEMENT = slot("context_management", object | nothing, "an object or null", {
  members: [
    slot("edits", array | nothing, "an array", {
      element: slot("edits", object, "an object", {
        members: [slot("type", string, "a string", { read: (state, value) => state.readEditType(value) })],
      }),
    }),
  ],
});

/** A field whose presence alone has a cost that nothing bounds. */
function unbounded(key: string, part: string, kinds: JsonKind, allowed: string): Slot {
  return slot(key, kinds | nothing, `${allowed} or null`, {
    read: (state, { kind }) => {
      if (kind !== nothing) state.unboundedParts.add(part);
    },
  });
}

function sampling(key: string): Slot {
  return slot(key, ANY_KIND, "a number", {
    read: (state, { kind }) => {
      if (kind !== nothing) state.hasSamplingParameters = true;
    },
  });
}

/** Fallback models and MCP servers count from the first entry on: an empty list is as good as none. */
function listOf(key: string, kinds: JsonKind, allowed: string, parts: { unbounded: string; remote?: string }): Slot {
  const add = (state: RequestReading): void => {
    state.unboundedParts.add(parts.unbounded);
    if (parts.remote !== undefined) state.remoteInputs.add(parts.remote);
  };
  return slot(key, kinds | array | nothing, allowed, {
    element: slot(key, object, "an object", { read: add }),
    read: (state, { kind }) => {
      if (kind === string) add(state);
    },
  });
}

const CONTAINER = slot("container", string | object | nothing, "a string, an object or null", {
  members: [
    slot("skills", array | nothing, "an array or null", {
      element: slot("skills", object, "an object", { read: (state) => void state.remoteInputs.add("skills") }),
    }),
  ],
  read: (state, { kind }) => {
    if (kind !== nothing) state.unboundedParts.add("container");
  },
});

/** A field that only some models take, and that costs nothing by itself. */
function feature(key: string, name: string): Slot {
  return slot(key, ANY_KIND, "an object or null", {
    read: (state, { kind }) => {
      if (kind !== nothing) state.features.add(name);
    },
  });
}

const OUTPUT_CONFIG = slot("output_config", ANY_KIND, "an object", {
  members: [
    slot("effort", ANY_KIND, "a string", { read: (state, value) => state.readEffort(value) }),
    feature("format", "output_format"),
    feature("task_budget", "task_budget"),
  ],
});

/** The whole request. */
export const REQUEST_SLOT: Slot = slot("", object, "a JSON object", {
  members: [
    slot("model", string, "a model name in a string", { read: (state, value) => state.readModel(value) }),
    slot("max_tokens", number | nothing, "a whole number from 0", { read: (state, value) => state.readMaxTokens(value) }),
    slot("stream", boolean | nothing, "true or false", {
      // The longer of the two words is false.
      read: (state, { kind, start, end }) => void (state.isStream = kind === boolean && end - start === 4),
    }),
    slot("messages", array, "an array of messages", { element: MESSAGE }),
    slot("system", string | array | nothing, "a string or an array of text blocks", { element: CONTENT }),
    slot("tools", array | nothing, "an array of tools", { element: tool("tools") }),
    slot("tool_choice", object | nothing, "an object or null", {
      members: [name("type", (state, value) => state.readToolChoice(value))],
    }),
    THINKING,
    CACHE_CONTROL,
    name("service_tier", (state, value) => state.readServiceTier(value)),
    name("speed", (state, value) => state.readSpeed(value)),
    name("inference_geo", (state, value) => state.readInferenceGeo(value)),
    slot("thread", object | nothing, "an object or null", {
      members: [name("type", (state, value) => state.readThreadType(value))],
    }),
    slot("metadata", object | nothing, "an object or null", {
      members: [name("user_id", (state, value) => state.readUserId(value))],
    }),
    CONTEXT_MANAGEMENT,
    CONTAINER,
    unbounded("compaction", "compaction", object, "an object"),
    listOf("fallbacks", string, `an array, "default" or null`, { unbounded: "fallbacks" }),
    listOf("mcp_servers", 0, "an array or null", { unbounded: "mcp_servers", remote: "mcp_servers" }),
    slot("temperature", ANY_KIND, "a number", { read: (state, value) => state.readTemperature(value) }),
    OUTPUT_CONFIG,
    feature("output_format", "output_format"),
    sampling("top_p"),
    sampling("top_k"),
  ],
});
