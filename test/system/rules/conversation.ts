/** The captured conversation: every request as printed, and the answer of a live server. */
import { readFileSync } from 'node:fs';
import type { Test } from 'tap';
import type { Curl } from './curl.js';

interface Exchange {
  /** METHOD /path below /api/v1 */
  readonly name: string;
  readonly command: string;
  readonly answer: unknown;
}

function exchangeOf(text: string): Exchange {
  const [request = '', ...answer] = text.split('\n\n');
  const method = /-X([A-Z]+)/.exec(request)?.[1] ?? 'GET';
  // Where the capture names a kind of value, the id of the only target is meant.
  const command = request.replace(/^\$ /, '').replace('(int:id)', '1');
  const path = /\/api\/v1(\S*)$/.exec(command)?.[1] ?? '';
  return { name: `${method} ${path}`, command, answer: JSON.parse(answer.join('\n\n')) };
}

export function exchanges(): readonly Exchange[] {
  const text = readFileSync(new URL('../../fixtures/conversation.txt', import.meta.url), 'utf8');
  return text
    .trim()
    .split(/\n\n\n(?=\$ )/)
    .map(exchangeOf);
}

const date = /^\d{4}-\d\d-\d\d (?=\d\d:\d\d:\d\d$)/;

/** An answer as text, with its keys in order. A date is reduced to its form, next_run to its form and time of day. */
export function canonical(answer: unknown): string {
  return JSON.stringify(answer, (key, value) => {
    if (typeof value !== 'string' || !date.test(value)) return value;
    return key === 'next_run' ? value.replace(date, 'DATE ') : 'DATE TIME';
  });
}

export interface Conversation {
  /** Sends the next captured request with that name, and compares the answer with the captured one. `changed` gives the expected
   *  answer where today's API differs. */
  say(t: Pick<Test, 'equal'>, name: string, changed?: (captured: string) => string): Promise<void>;
  /** Captured exchanges that no test has sent. */
  unsaid(): string[];
}

export function conversation(curl: Curl): Conversation {
  const left = [...exchanges()];
  return {
    async say(t, name, changed = (captured) => captured) {
      const at = left.findIndex((one) => one.name === name);
      const [exchange] = at < 0 ? [] : left.splice(at, 1);
      if (exchange === undefined) throw new Error(`${name} is not in the conversation, or not so often`);
      const answer = await curl.printed(exchange.command);
      t.equal(canonical(JSON.parse(answer)), changed(canonical(exchange.answer)), `${name}, as captured`);
    },
    unsaid: () => left.map(({ name }) => name),
  };
}
