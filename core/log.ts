/** The service's log: one line an event on stderr, so that stdout stays for what a caller reads. */
import type { PluginLog } from './contract/index.js';

const levels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof levels)[number];

/** A value in a line: line ends would forge entries. */
function flat(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return /[\s"\\]/.test(text) && typeof value === 'string' ? JSON.stringify(text) : text.replaceAll('\n', '\\n');
}

/** `least`: what is below it is dropped. */
export function createLog(least: LogLevel = 'info', write: (line: string) => void = (line) => void process.stderr.write(line)): PluginLog {
  return (level, message, detail = {}) => {
    if (levels.indexOf(level) < levels.indexOf(least)) return;
    const given = Object.entries(detail).filter(([, value]) => value !== undefined);
    const more = given.map(([key, value]) => ` ${key}=${flat(value)}`);
    write(`${new Date().toISOString()} ${level} ${message.replaceAll('\n', '\\n')}${more.join('')}\n`);
  };
}
