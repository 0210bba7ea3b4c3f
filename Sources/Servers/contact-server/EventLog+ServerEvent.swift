import CommandLineTool
import Contacts

extension EventLog {
  func write(_ event: ServerEvent) {
    let members = event.fields.map { field in
      let value: JSON =
        switch field.value {
        case .text(let text): .string(text)
        case .number(let number): .number(number)
        case .flag(let flag): .boolean(flag)
        }
      return JSON.Member(field.name, value)
    }
    write(event.name, event.text, members)
  }
}
