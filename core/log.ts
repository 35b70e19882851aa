/** The service's log: one line for each event, on stderr; stdout is for answers to the caller. */
import type { PluginLog } from './contract/index.js';

const levels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof levels)[number];

/** A value in a log line. Line ends are escaped, because they would forge entries. */
function flat(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return /[\s"\\]/.test(text) && typeof value === 'string' ? JSON.stringify(text) : text.replaceAll('\n', '\\n');
}

/** `least`: the lowest level to write. */
export function createLog(least: LogLevel = 'info', write: (line: string) => void = (line) => void process.stderr.write(line)): PluginLog {
  return (level, message, detail = {}) => {
    if (levels.indexOf(level) < levels.indexOf(least)) return;
    const given = Object.entries(detail).filter(([, value]) => value !== undefined);
    const more = given.map(([key, value]) => ` ${key}=${flat(value)}`);
    write(`${new Date().toISOString()} ${level} ${message.replaceAll('\n', '\\n')}${more.join('')}\n`);
  };
}
