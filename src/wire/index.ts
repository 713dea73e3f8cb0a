export * from './emulated-tokens.ts';
export * from './fleet-protocol.ts';
export * from './gateway-admin.ts';
export * from './openai.ts';
