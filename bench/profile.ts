/** Where the time of a call goes: the gateway under load with the profiler of Node, one table a thread. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { folder, nextLine, startProvider, startPurser } from "./gateway/targets.ts";
import type { LoadResult } from "./load/client.ts";
import { buildRequest, JSON_BODY } from "./load/traffic.ts";
import { LOAD_CORE, startPinned } from "./machine.ts";
import type { Row, Section } from "./table.ts";

const FRAMES_SHOWN = 25;
const ROOT = fileURLToPath(new URL("..", import.meta.url));

interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

/** 64 connections, 4 KB. */
export async function profileGateway({ warmUpMs, ms }: { warmUpMs: number; ms: number }): Promise<Section[]> {
  const into = mkdtempSync(join(folder, "profiles-"));
  const provider = startProvider();
  const gateway = await startPurser(Number(await nextLine(provider)), { nodeArgs: ["--cpu-prof", `--cpu-prof-dir=${into}`] });
  const file = join(folder, "profiled-request");
  writeFileSync(file, buildRequest({ bytes: 4_096, isStream: false, host: `127.0.0.1:${gateway.port}` }));
  const generator = startPinned(LOAD_CORE, process.execPath, [fileURLToPath(new URL("load/client.ts", import.meta.url))]);
  generator.stdin?.write(`closed ${gateway.port} 64 ${warmUpMs + ms} ${file} ${JSON_BODY.length}\n`);
  const { calls } = JSON.parse(await nextLine(generator)) as LoadResult;
  generator.stdin?.end();
  await gateway.stop();
  const files = readdirSync(into).filter((name) => name.endsWith(".cpuprofile"));
  return files.map((name) => {
    const thread = name.split(".")[4] === "0" ? "main thread" : `thread ${name.split(".")[4]}`;
    const rows = topOf(JSON.parse(readFileSync(join(into, name), "utf8")) as Profile, calls);
    return {
      title: `Profile of the gateway, ${thread}`,
      note: `${calls.toLocaleString("en-US")} calls, from the start of the process.`,
      rows,
    };
  });
}

function topOf({ nodes, samples, timeDeltas }: Profile, calls: number): Row[] {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const us = new Map<string, number>();
  samples.forEach((id, index) => {
    const name = names.get(id) ?? "?";
    us.set(name, (us.get(name) ?? 0) + (timeDeltas[index] ?? 0));
  });
  us.delete("(idle)");
  const total = [...us.values()].reduce((sum, one) => sum + one, 0);
  const top = [...us].toSorted(([, a], [, b]) => b - a).slice(0, FRAMES_SHOWN);
  return top.map(([name, one]) => ({ "self time": name, "%": (one * 100) / total, "µs a call": one / calls }));
}

function nameOf({ functionName, url, lineNumber }: Profile["nodes"][number]["callFrame"]): string {
  const name = functionName === "" ? "(anonymous)" : functionName;
  if (url === "") return name;
  const path = url.startsWith("file:") ? relative(ROOT, fileURLToPath(url)) : url;
  return `${name} ${path}:${lineNumber + 1}`;
}
