/** Keys as browsers name them, by their place and not by what is on them (UI Events KeyboardEvent code Values). */
import { keyCodes } from "./key-names.ts";

/** Pairs of a `code` and the name of its key here. Letters, digits and F1 to F24 follow a rule. */
const others = `
Escape esc Minus minus Equal equal Backspace backspace Tab tab BracketLeft leftbrace
BracketRight rightbrace Enter enter ControlLeft leftctrl ControlRight rightctrl
Semicolon semicolon Quote apostrophe Backquote grave ShiftLeft leftshift ShiftRight rightshift
Backslash backslash Comma comma Period dot Slash slash AltLeft leftalt AltRight rightalt
Space space CapsLock capslock NumLock numlock ScrollLock scrolllock IntlBackslash 102nd
IntlRo ro IntlYen yen KanaMode katakanahiragana Convert henkan NonConvert muhenkan
Lang1 hangeul Lang2 hanja Lang3 katakana Lang4 hiragana Lang5 zenkakuhankaku
NumpadMultiply kpasterisk NumpadSubtract kpminus NumpadAdd kpplus NumpadDecimal kpdot
NumpadDivide kpslash NumpadEnter kpenter NumpadEqual kpequal NumpadComma kpcomma
NumpadParenLeft kpleftparen NumpadParenRight kprightparen PrintScreen sysrq Pause pause
Home home End end PageUp pageup PageDown pagedown Insert insert Delete delete
ArrowUp up ArrowDown down ArrowLeft left ArrowRight right
MetaLeft leftmeta MetaRight rightmeta OSLeft leftmeta OSRight rightmeta ContextMenu compose
AudioVolumeMute mute AudioVolumeDown volumedown AudioVolumeUp volumeup
VolumeMute mute VolumeDown volumedown VolumeUp volumeup
Power power Sleep sleep WakeUp wakeup Help help Again again Undo undo Props props
Copy copy Paste paste Cut cut Find find Open open Select front
BrowserBack back BrowserForward forward BrowserRefresh refresh BrowserStop stop
BrowserHome homepage BrowserFavorites bookmarks LaunchMail mail LaunchApp1 computer
LaunchApp2 calc MediaTrackNext nextsong MediaTrackPrevious previoussong
MediaPlayPause playpause MediaStop stopcd Eject ejectcd
`;

const words = others.trim().split(/\s+/);
const names = new Map<string, string>();
for (let i = 0; i < words.length; i += 2) names.set(words[i]!, words[i + 1]!);
for (const letter of "abcdefghijklmnopqrstuvwxyz") names.set(`Key${letter.toUpperCase()}`, letter);
for (const digit of "0123456789") {
  names.set(`Digit${digit}`, digit);
  names.set(`Numpad${digit}`, `kp${digit}`);
}
for (let i = 1; i <= 24; i++) names.set(`F${i}`, `f${i}`);

/** Linux's key codes by the `code` of a KeyboardEvent. */
export const browserKeys: ReadonlyMap<string, number> = new Map(
  [...names].map(([code, name]) => {
    const key = keyCodes.get(name);
    if (key === undefined) throw new RangeError(`There is no key "${name}"`);
    return [code, key] as const;
  }),
);
