/**
 * The entry point `purser/testing`: what a test of an agent, or of Purser itself, may stand on.
 * It holds names only; each thing is made and documented in its own room.
 */
export { startOpenAiSimulator } from "../simulator/openai.ts";
export type { OpenAiBehaviour, OpenAiRequest, OpenAiSimulator } from "../simulator/openai.ts";
export type { OpenAiBill, OpenAiBillLine, OpenAiTier, OpenAiTokens } from "../simulator/openai-bill.ts";
export { startSimulator } from "../simulator/simulator.ts";
export type {
  AnswerOptions,
  Behaviour,
  BehaviourChoice,
  Bill,
  BillLine,
  BillReason,
  Consumption,
  ContentSpec,
  CostParts,
  GenerationOptions,
  IterationSpec,
  PaceOptions,
  RequestMatch,
  Sampling,
  SimulatedRequest,
  Simulator,
  SimulatorOptions,
  TellingOptions,
  TokenParts,
  UsageFault,
  WireOptions,
} from "../simulator/simulator.ts";
