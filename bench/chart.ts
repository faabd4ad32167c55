/** Draws the chart of docs/benchmarks.md: throughput of each proxy, as a share of nginx in the same run. Readable in light and dark. */
import type { Row, Section } from "./table.ts";

const NAMES = ["nginx", "bare proxy", "purser", "Portkey"];
const COLOURS = ["#7a869a", "#4c8bb5", "#2a9d6f", "#c77d3a"];
const [WIDTH, LEFT, BAR, GAP] = [760, 250, 16, 22];

/** @returns `undefined` if the run did not compare throughput, or nginx was not in it. */
export function drawChart(sections: readonly Section[]): string | undefined {
  const rows = sections.find(({ title }) => title.startsWith("Throughput"))?.rows.slice(1) ?? [];
  if (rows.length === 0 || rows.some((row) => typeof row["nginx"] !== "number")) return undefined;
  const parts: string[] = [];
  const most = Math.max(...rows.flatMap((row) => NAMES.map((name) => Number(row[name] ?? 0) / Number(row["nginx"]))));
  let top = 56;
  for (const row of rows) {
    const bars = NAMES.filter((name) => typeof row[name] === "number");
    parts.push(text(LEFT - 12, top + (bars.length * BAR) / 2 + 4, String(row["calls per second"]), "end"));
    for (const name of bars) {
      parts.push(bar(row, name, { top, most }));
      top += BAR;
    }
    top += GAP;
  }
  const legend = NAMES.map((name, index) => {
    const x = LEFT + index * 110;
    return `<rect x="${x}" y="28" width="11" height="11" fill="${COLOURS[index]}"/>${text(x + 16, 38, name, "start")}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" font-family="system-ui, sans-serif" font-size="12">
<style>text { fill: #24292f } @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }</style>
${text(12, 18, "Calls per second of one core, % of nginx in the same run", "start")}
${[...legend, ...parts].join("\n")}
</svg>
`;
}

function bar(row: Row, name: string, { top, most }: { top: number; most: number }): string {
  const [value, full] = [Number(row[name]), Number(row["nginx"])];
  const share = value / full;
  const width = Math.max(1, (share / most) * (WIDTH - LEFT - 130));
  const label = `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %  ${Math.round(value).toLocaleString("en-US")}/s`;
  return `<rect x="${LEFT}" y="${top}" width="${width.toFixed(1)}" height="${BAR - 3}" fill="${COLOURS[NAMES.indexOf(name)]}"/>${text(LEFT + width + 6, top + 11, label, "start")}`;
}

function text(x: number, y: number, words: string, anchor: "start" | "end"): string {
  return `<text x="${x.toFixed(0)}" y="${y.toFixed(0)}" text-anchor="${anchor}">${words}</text>`;
}
