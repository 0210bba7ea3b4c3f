import Testing

@testable import Contacts
