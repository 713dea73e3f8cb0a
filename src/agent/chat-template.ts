// How an emulated model turns a conversation into one text, as a chat template does.
import type { ChatMessage } from '../wire/index.ts';

export function renderChat(messages: readonly ChatMessage[]): string {
  let text = '';
  for (const { role, content } of messages) text += `${role}: ${contentText(content)}\n`;
  return `${text}assistant:`;
}

const contentText = (content: ChatMessage['content']): string =>
  typeof content === 'string' ? content : (content ?? []).map((part) => part.text ?? '').join('');
