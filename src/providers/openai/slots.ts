/**
 * Owns where in a request each deciding value stands: the keys that are read, at the depth where they are read, for each of the protocols.
 * Does not own what they mean (reading.ts).
 * Invariant: arguments, schemas and every key not listed here are the caller's own: neither read nor compared.
 *
 * @see providers.md §12; `ChatCompletionCreateParams`, `ResponseCreateParams`, `EmbeddingCreateParams` in openai 7.57.0
 */
import { ANY_KIND, JSON_KIND, JsonMembers, slotFor, type JsonKind, type JsonSlot, type JsonValueSpan } from "../json/slot.ts";
import { isSaid, type RequestReading } from "./reading.ts";

type Slot = JsonSlot<RequestReading>;
type Read = (state: RequestReading, value: JsonValueSpan) => string | undefined | void;
const slot = slotFor<RequestReading>();

const { object, array, string, number, boolean, null: nothing } = JSON_KIND;

/** A name in a string, or null for "as if it were not there". */
function name(key: string, read: Read): Slot {
  return slot(key, string | nothing, "a string", { read });
}

/** A value of any kind, of which only some say something. */
function any(key: string, read: Read): Slot {
  return slot(key, ANY_KIND, "any value", { read });
}

function maxTokens(key: string): Slot {
  return slot(key, number | nothing, "a whole number from 0", { read: (state, value) => state.readMaxTokens(value, key) });
}

/** Input that is not in the body: an id, a template, an address. */
function remote(key: string, part: string, members?: readonly Slot[]): Slot {
  const read: Read = (state, { kind }) => {
    if (isSaid(kind)) state.remoteInputs.add(part);
  };
  return slot(key, ANY_KIND, "any value", members === undefined ? { read } : { read, members });
}

/** A field whose presence alone has a cost that nothing bounds. */
function unbounded(key: string, part: string): Slot {
  return any(key, (state, { kind }) => {
    if (isSaid(kind)) state.unboundedParts.add(part);
  });
}

const CACHE_MARK = slot("prompt_cache_breakpoint", ANY_KIND, "an object", {
  members: [name("ttl", (state, value) => state.readTtl(value))],
});

const PART_MEMBERS: readonly Slot[] = [
  name("type", (state, value) => state.readPartType(value)),
  // An address in a string (Responses), or in an object (Chat Completions).
  slot("image_url", ANY_KIND, "a string or an object", {
    members: [any("url", (state, value) => state.readAddress(value))],
    read: (state, value) => state.readAddress(value),
  }),
  CACHE_MARK,
  // Servers that pass a request on to Anthropic take its marks.
  any("cache_control", (state, value) => state.readCacheControl(value)),
];

/** Text, a list of parts, or one part. */
function content(key: string): Slot {
  const part: { -readonly [Key in keyof Slot]: Slot[Key] } = {
    name: key,
    kinds: ANY_KIND,
    allowed: "a string or an array of parts",
    members: new JsonMembers(PART_MEMBERS),
    open: (state, kind) => {
      if (kind === object) state.openPart();
    },
    read: (state, { kind }) => {
      if (kind === object) state.readPart();
      return undefined;
    },
  };
  part.element = part;
  return part;
}

const TOOLS = slot("tools", array | nothing, "an array of tools", {
  element: slot("tools", object, "an object", {
    members: [name("type", (state, value) => state.readToolType(value))],
    open: (state) => state.openTool(),
    read: (state) => state.readTool(),
  }),
});

/** A message, or another item of a conversation. */
function item(key: string): Slot {
  return slot(key, object, "an object", {
    members: [
      name("role", (state, value) => state.readRole(value)),
      name("type", (state, value) => state.readItemType(value)),
      content("content"),
      content("output"),
      any("encrypted_content", (state, { kind }) => {
        if (isSaid(kind)) state.readContent();
      }),
      // An earlier answer that was spoken; sound has prices of its own.
      unbounded("audio", "audio"),
      TOOLS,
      CACHE_MARK,
    ],
    open: (state) => state.openItem(),
    read: (state, value) => state.readItem(value),
  });
}

const MODEL = slot("model", string, "a model name in a string", { read: (state, value) => state.readModel(value) });
const STREAM = slot("stream", boolean | nothing, "true or false", {
  // The longer of the two words is false.
  read: (state, { kind, start, end }) => void (state.isStream = kind === boolean && end - start === 4),
});
const EFFORT = any("effort", (state, value) => state.readEffort(value));

/** What both ways of asking a model have. */
const SHARED: readonly Slot[] = [
  MODEL,
  STREAM,
  TOOLS,
  any("tool_choice", (state, value) => state.readToolChoice(value)),
  name("service_tier", (state, value) => state.readServiceTier(value)),
  slot("prompt_cache_options", ANY_KIND, "an object or null", {
    members: [name("ttl", (state, value) => state.readTtl(value))],
  }),
  any("temperature", (state, value) => state.readTemperature(value)),
  any("top_p", (state, value) => state.readTemperature(value)),
  // Of servers that speak the protocol: other models in place of this one, and work with fees of its own.
  unbounded("models", "models"),
  unbounded("plugins", "plugins"),
];

/** What models that think before they answer do not take. */
const PLAIN_OPTIONS: readonly Slot[] = [
  "stop",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "logprobs",
  "top_logprobs",
].map((key) =>
  any(key, (state, { kind }) => {
    if (isSaid(kind)) state.hasSamplingParameters = true;
  }),
);

/** `POST /v1/chat/completions` */
export const CHAT_SLOT: Slot = slot("", object, "a JSON object", {
  members: [
    ...SHARED,
    ...PLAIN_OPTIONS,
    maxTokens("max_completion_tokens"),
    maxTokens("max_tokens"),
    slot("n", number | nothing, "a whole number from 1", { read: (state, value) => state.readChoices(value) }),
    slot("messages", array, "an array of messages", { element: item("messages") }),
    slot("stream_options", object | nothing, "an object or null", {
      members: [
        slot("include_usage", boolean | nothing, "true or false", { read: (state, value) => state.readIncludeUsage(value) }),
      ],
      // The scanner goes on using its value.
      read: (state, { kind, start, end }) => void (state.streamOptions = { kind, start, end }),
    }),
    slot("prediction", object | nothing, "an object or null", { read: (state, value) => state.readPrediction(value) }),
    slot("modalities", array | nothing, "an array or null", {
      element: name("modalities", (state, value) => state.readModality(value)),
    }),
    unbounded("audio", "audio"),
    unbounded("web_search_options", "web_search"),
    any("reasoning_effort", (state, value) => state.readEffort(value)),
  ],
});

function itemsOrText(key: string): Slot {
  return slot(key, string | array, "a string or an array", {
    element: item(key),
    // One text is one message.
    read: (state, value) => {
      return value.kind === string ? state.readText(value) : undefined;
    },
  });
}

/** `POST /v1/responses` */
export const RESPONSES_SLOT: Slot = slot("", object, "a JSON object", {
  members: [
    ...SHARED,
    maxTokens("max_output_tokens"),
    slot("max_tool_calls", number | nothing, "a whole number from 0", { read: (state, value) => state.readToolCallsMax(value) }),
    itemsOrText("input"),
    remote("previous_response_id", "previous_response_id"),
    remote("conversation", "conversation"),
    // A template may bring tools of its own.
    any("prompt", (state, { kind }) => {
      if (!isSaid(kind)) return;
      state.remoteInputs.add("prompt");
      state.unboundedParts.add("prompt");
    }),
    slot("background", boolean | nothing, "true or false", {
      read: (state, { kind, start, end }) => void (state.isBackground = kind === boolean && end - start === 4),
    }),
    name("truncation", (state, value) => state.readTruncation(value)),
    slot("context_management", array | nothing, "an array or null", {
      element: slot("context_management", object, "an object", {
        read: (state) => {
          state.isHistoryEdited = true;
          state.unboundedParts.add("compaction");
        },
      }),
    }),
    slot("reasoning", ANY_KIND, "an object or null", {
      members: [EFFORT, name("mode", (state, value) => state.readReasoningMode(value))],
    }),
  ],
});

const KIND_OF_INPUT: JsonKind = string | array;

/** `POST /v1/embeddings` */
export const EMBEDDINGS_SLOT: Slot = slot("", object, "a JSON object", {
  members: [
    MODEL,
    slot("input", KIND_OF_INPUT, "a string or an array", {
      element: slot("input", ANY_KIND, "a string, a number or an array", {
        read: (state, { kind }) => (kind === number ? undefined : state.readInputElement()),
      }),
    }),
  ],
});
