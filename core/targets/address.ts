/** Parses a server's address as a client writes it: `host`, `host:port` or `[v6]:port`. */
export interface Address {
  /** Without brackets. */
  readonly host: string;
  readonly port?: number;
}

const form = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_][A-Za-z0-9._-]*))(?::([0-9]{1,5}))?$/;

/** @returns undefined for a text that is no address */
export function addressOf(text: string): Address | undefined {
  const [, bracketed, plain, port] = form.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined) return undefined;
  if (port === undefined) return { host };
  return Number(port) >= 1 && Number(port) <= 65_535 ? { host, port: Number(port) } : undefined;
}
