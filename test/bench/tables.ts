/** Formats figures and tables for docs/performance.md. */
import type { Spread } from './figures.js';

export const spreadText = ({ median, least, most }: Spread, digits: number): string =>
  `${median.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
export const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
export const percent = (part: number): string => `${(part * 100).toFixed(0)} %`;

const row = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
